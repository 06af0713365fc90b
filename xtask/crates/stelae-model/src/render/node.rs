//! A value that remembers where each of its parts was written.

use std::ops::Range;

use serde_json::Value;

use super::{Place, Source};

/// A value and the place it comes from.
#[derive(Clone, Debug)]
pub struct Node<'s> {
    /// The value.
    pub tree: Tree<'s>,
    /// The file.
    pub source: &'s Source,
    /// The bytes of the file that say it, quotes and brackets included.
    pub span: Range<usize>,
}

/// The value of a node.
#[derive(Clone, Debug)]
pub enum Tree<'s> {
    /// `null`, a boolean or a number.
    Scalar(Value),
    /// A string: the only thing in which tokens are looked for.
    Text(String),
    /// A list.
    Array(Vec<Node<'s>>),
    /// Members in the order in which they were written; keys are unique.
    Object(Vec<(Key, Node<'s>)>),
}

/// A key of an object.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key.
    pub text: String,
    /// The bytes that say it, quotes included.
    pub span: Range<usize>,
}

impl<'s> Node<'s> {
    /// Where it was written.
    pub fn place(&self) -> Place {
        self.source.place(self.span.start)
    }

    /// The member of an object.
    pub fn get(&self, key: &str) -> Option<&Node<'s>> {
        match &self.tree {
            Tree::Object(members) => members.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The plain value.
    pub fn to_value(&self) -> Value {
        match &self.tree {
            Tree::Scalar(value) => value.clone(),
            Tree::Text(text) => Value::String(text.clone()),
            Tree::Array(items) => items.iter().map(Node::to_value).collect(),
            Tree::Object(members) => {
                members.iter().map(|(key, node)| (key.text.clone(), node.to_value())).collect()
            }
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.tree, Tree::Scalar(Value::Null))
    }
}
