//! What one server offers, as it says it, and as clients are to see it. Pure.

use serde_json::{Map, Value};
use stelae_model::overrides::ServerOverrides;
use stelae_model::proxy::{FilterMode, ServerEntry};

/// One kind of thing that a server lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `tools/list`
    Tool,
    /// `prompts/list`
    Prompt,
    /// `resources/list`
    Resource,
    /// `resources/templates/list`
    Template,
}

impl Kind {
    /// What a server that lists these has among its capabilities.
    pub(super) fn capability(self) -> &'static str {
        match self {
            Self::Tool => "/tools",
            Self::Prompt => "/prompts",
            Self::Resource | Self::Template => "/resources",
        }
    }

    /// How they are asked for.
    pub(super) fn list_method(self) -> &'static str {
        match self {
            Self::Tool => "tools/list",
            Self::Prompt => "prompts/list",
            Self::Resource => "resources/list",
            Self::Template => "resources/templates/list",
        }
    }

    /// Where they stand in a page.
    pub(super) fn list_key(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource => "resources",
            Self::Template => "resourceTemplates",
        }
    }

    /// What each is known by.
    pub(super) fn id_key(self) -> &'static str {
        match self {
            Self::Tool | Self::Prompt => "name",
            Self::Resource => "uri",
            Self::Template => "uriTemplate",
        }
    }

    /// The items of a page, and the cursor of the next.
    ///
    /// # Errors
    /// It is no such page, as a sentence.
    pub(super) fn page(self, page: Value) -> Result<Page, String> {
        let Value::Object(mut page) = page else { return Err("the answer is no object".to_owned()) };
        let next = page.remove("nextCursor").filter(|cursor| !cursor.is_null());
        let Some(Value::Array(items)) = page.remove(self.list_key()) else {
            return Err(format!("the answer has no {:?}", self.list_key()));
        };
        let item = |item: Value| match item {
            Value::Object(item) if item.get(self.id_key()).is_some_and(Value::is_string) => Ok(item),
            _ => Err(format!("an item has no {:?}", self.id_key())),
        };
        Ok((items.into_iter().map(item).collect::<Result<_, _>>()?, next))
    }
}

/// The items of a page, and the cursor of the next.
type Page = (Vec<Map<String, Value>>, Option<Value>);

/// Everything that a server lists, each item as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Offer {
    pub(super) tools: Vec<Map<String, Value>>,
    pub(super) prompts: Vec<Map<String, Value>>,
    pub(super) resources: Vec<Map<String, Value>>,
    pub(super) templates: Vec<Map<String, Value>>,
}

impl Offer {
    /// The list of one kind.
    pub(super) fn of(&mut self, kind: Kind) -> &mut Vec<Map<String, Value>> {
        match kind {
            Kind::Tool => &mut self.tools,
            Kind::Prompt => &mut self.prompts,
            Kind::Resource => &mut self.resources,
            Kind::Template => &mut self.templates,
        }
    }
}

/// An item under the name that it would have if its server were alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    /// What its server calls it.
    pub(super) own: String,
    /// What it is to be called.
    pub(super) name: String,
    /// All of it; its name in here is [`Self::own`].
    pub(super) item: Map<String, Value>,
}

/// Items whose names are left as they are.
pub(super) fn named(items: &[Map<String, Value>]) -> Vec<Named> {
    items.iter().map(|item| Named { own: name_of(item), name: name_of(item), item: item.clone() }).collect()
}

/// The tools that clients are to see, and what could not be done to them, as sentences.
#[derive(Debug, PartialEq)]
pub(super) struct Presented {
    pub(super) tools: Vec<Named>,
    pub(super) complaints: Vec<String>,
}

/// The tools that clients are to see: filtered by the server's entry, then renamed and described by the overrides. One that
/// is to get the name of another one of this server keeps its own: otherwise one of the two could not be called.
pub(super) fn presented(
    tools: &[Map<String, Value>],
    entry: &ServerEntry,
    overrides: Option<&ServerOverrides>,
) -> Presented {
    let passes = |tool: &Named| {
        entry.tool_filter.as_ref().is_none_or(|filter| match filter.mode {
            FilterMode::Allow => filter.list.contains(&tool.own),
            FilterMode::Block => !filter.list.contains(&tool.own),
        })
    };
    let present = |mut tool: Named| {
        let Some(told) = overrides.and_then(|overrides| overrides.tools.get(&tool.own)) else {
            return Some(tool);
        };
        if !told.enabled {
            return None;
        }
        if let Some(name) = &told.name {
            tool.name.clone_from(name);
        }
        if let Some(description) = &told.description {
            tool.item.insert("description".to_owned(), description.as_str().into());
        }
        Some(tool)
    };
    let tools = named(tools);
    let mut complaints = unknown(&tools, entry, overrides);
    let mut tools: Vec<_> = tools.into_iter().filter(passes).filter_map(present).collect();
    // One that gets its own name back can be in the way of the next.
    while let Some(taking) = tools.iter().position(|tool| is_taken(tool, &tools)) {
        let tool = &mut tools[taking];
        complaints
            .push(format!("tool {:?} is not called {:?}: it has one of that name", tool.own, tool.name));
        tool.name.clone_from(&tool.own);
    }
    Presented { tools, complaints }
}

/// What filter and overrides say of tools that the server does not have: a name that is misspelt changes nothing.
fn unknown(tools: &[Named], entry: &ServerEntry, overrides: Option<&ServerOverrides>) -> Vec<String> {
    let is_unknown = |name: &&String| !tools.iter().any(|tool| tool.own == **name);
    let filter = entry.tool_filter.iter().flat_map(|filter| &filter.list).filter(is_unknown);
    let filter = filter.map(|name| format!("toolFilter names the tool {name:?}, which it does not have"));
    let told = overrides.into_iter().flat_map(|overrides| overrides.tools.keys()).filter(is_unknown);
    filter
        .chain(told.map(|name| format!("the overrides name the tool {name:?}, which it does not have")))
        .collect()
}

/// Whether a tool was given the name that another one has of itself.
fn is_taken(tool: &Named, tools: &[Named]) -> bool {
    tool.name != tool.own && tools.iter().any(|other| other.own == tool.name && other.name == tool.name)
}

fn name_of(item: &Map<String, Value>) -> String {
    item.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stelae_model::overrides::ToolOverride;
    use stelae_model::proxy::ToolFilter;

    use super::*;

    fn tools(names: &[&str]) -> Vec<Map<String, Value>> {
        let tools = json!({"tools": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()});
        Kind::Tool.page(tools).unwrap().0
    }

    fn shown(tools: &[Named]) -> Vec<(&str, &str)> {
        tools.iter().map(|tool| (tool.own.as_str(), tool.name.as_str())).collect()
    }

    #[test]
    fn a_name_that_is_no_tool_of_the_server_is_complained_of() {
        let filter = ToolFilter { mode: FilterMode::Block, list: ["tow".to_owned()].into() };
        let entry = ServerEntry { tool_filter: Some(filter), ..ServerEntry::default() };
        let told = ToolOverride { enabled: false, name: None, description: None };
        let told = ServerOverrides { tools: [("thr".to_owned(), told)].into() };
        let Presented { tools, complaints } = presented(&tools(&["one", "two"]), &entry, Some(&told));
        assert_eq!(shown(&tools), [("one", "one"), ("two", "two")]);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("\"tow\"") && complaints[1].contains("\"thr\""), "{complaints:?}");
    }

    #[test]
    fn a_page_keeps_what_it_does_not_know() {
        let page =
            json!({"tools": [{"name": "t", "execution": {"taskSupport": "required"}}], "nextCursor": "2"});
        let (items, next) = Kind::Tool.page(page).unwrap();
        assert_eq!(items[0]["execution"]["taskSupport"], "required");
        assert_eq!(next, Some(json!("2")));
        for (wrong, why) in [
            (json!([]), "no object"),
            (json!({}), "no \"tools\""),
            (json!({"tools": [{"title": "x"}]}), "no \"name\""),
            (json!({"tools": [{"name": 7}]}), "no \"name\""),
        ] {
            assert!(Kind::Tool.page(wrong).unwrap_err().contains(why));
        }
    }

    #[test]
    fn filters_go_by_what_the_server_says() {
        let filter = |mode| {
            let list = ["a".to_owned()].into();
            let entry =
                ServerEntry { tool_filter: Some(ToolFilter { mode, list }), ..ServerEntry::default() };
            presented(&tools(&["a", "b"]), &entry, None).tools
        };
        assert_eq!(shown(&filter(FilterMode::Allow)), [("a", "a")]);
        assert_eq!(shown(&filter(FilterMode::Block)), [("b", "b")]);
    }

    #[test]
    fn overrides_take_away_rename_and_describe() {
        let told = |enabled, name: Option<&str>, description: Option<&str>| ToolOverride {
            enabled,
            name: name.map(str::to_owned),
            description: description.map(str::to_owned),
        };
        let overrides = ServerOverrides {
            tools: [
                ("a".to_owned(), told(false, None, None)),
                ("b".to_owned(), told(true, Some("renamed"), Some("better"))),
            ]
            .into(),
        };
        let Presented { tools, complaints } =
            presented(&tools(&["a", "b", "c"]), &ServerEntry::default(), Some(&overrides));
        assert_eq!(shown(&tools), [("b", "renamed"), ("c", "c")]);
        assert_eq!(tools[0].item["description"], "better");
        assert_eq!(complaints, Vec::<String>::new());
    }

    fn renamed(names: &[&str], renames: &[(&str, &str)]) -> Presented {
        let told =
            |name: &str| ToolOverride { enabled: true, name: Some(name.to_owned()), description: None };
        let renames = renames.iter().map(|(from, to)| ((*from).to_owned(), told(to)));
        let overrides = ServerOverrides { tools: renames.collect() };
        presented(&tools(names), &ServerEntry::default(), Some(&overrides))
    }

    #[test]
    fn a_name_that_another_tool_has_is_not_given_away() {
        let Presented { tools, complaints } = renamed(&["a", "b"], &[("a", "b")]);
        assert_eq!(shown(&tools), [("a", "a"), ("b", "b")]);
        assert_eq!(complaints, ["tool \"a\" is not called \"b\": it has one of that name"]);
        let of_three = renamed(&["a", "b", "c"], &[("a", "b"), ("b", "c")]);
        assert_eq!(shown(&of_three.tools), [("a", "a"), ("b", "b"), ("c", "c")], "one leads to the next");
        assert_eq!(of_three.complaints.len(), 2);
        for free in [&[("a", "b"), ("b", "a")][..], &[("a", "b"), ("b", "c")], &[("a", "c")]] {
            let presented = renamed(&["a", "b"], free);
            assert_eq!(presented.complaints, Vec::<String>::new(), "{free:?}");
        }
    }
}
