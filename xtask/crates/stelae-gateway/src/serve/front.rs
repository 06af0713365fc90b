//! What clients talk to: one MCP server that has the tools of all.

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ErrorCode, ErrorData, Implementation, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig,
};
use rmcp::service::{NotificationContext, Peer, RequestContext};
use rmcp::{RoleServer, ServerHandler};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::board::{Board, NoTarget, Target};
use super::connect::PROTOCOL;
use super::link::NoAnswer;
use super::log::event;

/// A server that is away, or does not answer: the first free code of the range that JSON-RPC leaves to servers.
const SERVER_AWAY: ErrorCode = ErrorCode(-32010);

/// One client's session.
pub(super) struct Front {
    board: Arc<Board>,
    name: String,
    /// Ends the notifications together with the session.
    session: CancellationToken,
    _end: DropGuard,
}

impl Front {
    /// A new session of the gateway called `name`.
    pub(super) fn new(board: Arc<Board>, name: String) -> Self {
        let session = CancellationToken::new();
        Self { board, name, _end: session.clone().drop_guard(), session }
    }
}

impl ServerHandler for Front {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build();
        let us = Implementation::new(self.name.clone(), env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities).with_server_info(us).with_protocol_version(PROTOCOL)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::known_up_to(&PROTOCOL))
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        tokio::spawn(tell_changes(Arc::clone(&self.board), context.peer, self.session.clone()));
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.board.catalog().tools.clone()))
    }

    async fn call_tool(
        &self,
        mut request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Target { server, tool, link } = self.board.target(&request.name).map_err(|why| match why {
            NoTarget::NoSuchTool(why) => ErrorData::invalid_params(why, None),
            NoTarget::ServerAway(why) => ErrorData::new(SERVER_AWAY, why, None),
        })?;
        let public = std::mem::replace(&mut request.name, tool.into());
        // The metadata travels beside the parameters; in both places it would be written twice.
        request.meta = None;
        let answer = link.call(request, context.meta, &context.ct).await;
        answer.map(CallToolResponse::Complete).map_err(|why| {
            let error = no_answer(&server, &public, why);
            event!("server {server:?}: call of {public:?} failed: {}", error.message);
            error
        })
    }
}

fn no_answer(server: &str, tool: &str, why: NoAnswer) -> ErrorData {
    let because = match why {
        NoAnswer::Refused(error) => return error,
        NoAnswer::Gone => "went away before it answered".to_owned(),
        NoAnswer::TooLate(limit) => format!("gave no answer within {} ms", limit.as_millis()),
        NoAnswer::Cancelled => "was called, and the call was cancelled".to_owned(),
        NoAnswer::Broken(error) => format!("could not be called: {error}"),
    };
    ErrorData::new(SERVER_AWAY, format!("server {server:?} of tool {tool:?} {because}"), None)
}

/// Sends `notifications/tools/list_changed` for as long as the session lives.
async fn tell_changes(board: Arc<Board>, peer: Peer<RoleServer>, session: CancellationToken) {
    let mut changes = board.list_changes();
    let telling =
        async { while changes.next().await.is_some() && peer.notify_tool_list_changed().await.is_ok() {} };
    session.run_until_cancelled(telling).await;
}
