//! What clients talk to: one MCP server that has what all servers have. The session itself; requests are relayed by
//! [`super::relay`].

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{
    CustomNotification, CustomRequest, CustomResult, ErrorData, Implementation, ProtocolVersion,
    ServerCapabilities, ServerConfig, ServerNotification,
};
use rmcp::service::{NotificationContext, Peer, RequestContext};
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::board::{Board, ListChanges};
use super::calls::Calls;
use super::connect::PROTOCOL;
use super::hub::{Hub, Notice};
use super::offer::Kind;
use super::raw;
use super::rpc::Asker;

/// One client's session.
pub(super) struct Front {
    pub(super) board: Arc<Board>,
    pub(super) hub: Arc<Hub>,
    pub(super) asker: Asker,
    pub(super) calls: Option<Calls>,
    name: String,
    /// Taken when the client is ready to be told. Until then they gather what it may have missed: its first requests can be
    /// answered before its `initialized` is.
    news: Mutex<Option<(ListChanges, Receiver<Notice>)>>,
    /// Ends the notifications together with the session.
    session: CancellationToken,
    _end: DropGuard,
}

impl Front {
    /// A new session of the gateway called `name`.
    pub(super) fn new(board: Arc<Board>, hub: Arc<Hub>, name: String, calls: Option<Calls>) -> Self {
        let session = CancellationToken::new();
        let (asker, notices) = hub.join();
        let news = Mutex::new(Some((board.list_changes(), notices)));
        Self { board, hub, asker, calls, name, news, _end: session.clone().drop_guard(), session }
    }

    /// Something that ends with the session.
    pub(super) fn while_it_lasts(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = Option<()>> + Send + 'static {
        self.session.clone().run_until_cancelled_owned(work)
    }

    /// Tells a server that nobody wants to know of this resource any more. Nobody waits for its answer.
    pub(super) fn unsubscribe_upstream(&self, uri: &str) {
        if let Ok(target) = self.board.resource(uri) {
            let params = json!({"uri": uri});
            let call = target.link.peer.call("resources/unsubscribe", params, None, false);
            tokio::spawn(tokio::time::timeout(target.link.limit, call.answer()));
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let left = self.hub.leave(self.asker);
        // A session can end with the runtime; then the servers end, too.
        if tokio::runtime::Handle::try_current().is_ok() {
            left.iter().for_each(|uri| self.unsubscribe_upstream(uri));
        }
    }
}

impl ServerHandler for Front {
    #[expect(
        deprecated,
        reason = "rmcp calls logging deprecated from 2026-07-28 on; we speak what was before it"
    )]
    fn get_info(&self) -> ServerConfig {
        // Whatever a server can, a server that is installed later may be able to: all of it is said at once.
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_completions()
            .enable_logging()
            .build();
        let us = Implementation::new(self.name.clone(), env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities).with_server_info(us).with_protocol_version(PROTOCOL)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::known_up_to(&PROTOCOL))
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        self.answer(raw::method(&request.method), request.params, context).await.map(CustomResult)
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((changes, notices)) = news {
            let telling = tell(changes, notices, context.peer);
            tokio::spawn(self.while_it_lasts(telling));
        }
    }
}

/// Passes on what servers say on their own account, until the client is gone.
async fn tell(mut changes: ListChanges, mut notices: Receiver<Notice>, client: Peer<RoleServer>) {
    loop {
        let told = tokio::select! {
            changed = changes.next() => match changed {
                Some(kinds) => list_changed(&kinds, &client).await,
                None => return,
            },
            notice = notices.recv() => match notice {
                Some(Notice::Log(params)) => notify(&client, "notifications/message", Some(params.to_value())).await,
                Some(Notice::Updated(params)) => {
                    notify(&client, "notifications/resources/updated", Some(params.to_value())).await
                }
                None => return,
            },
        };
        if told.is_none() {
            return;
        }
    }
}

async fn list_changed(kinds: &[Kind], client: &Peer<RoleServer>) -> Option<()> {
    for kind in kinds {
        let method = match kind {
            Kind::Tool => "notifications/tools/list_changed",
            Kind::Prompt => "notifications/prompts/list_changed",
            Kind::Resource | Kind::Template => "notifications/resources/list_changed",
        };
        notify(client, method, None).await?;
    }
    Some(())
}

/// Sends a notification as it came. `None` when the client is gone.
pub(super) async fn notify(client: &Peer<RoleServer>, method: &str, params: Option<Value>) -> Option<()> {
    let notification = CustomNotification::new(method, params);
    client.send_notification(ServerNotification::CustomNotification(notification)).await.ok()
}
