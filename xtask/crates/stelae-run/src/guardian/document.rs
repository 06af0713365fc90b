//! The document of a verb on its way from the worker to the watchdog, which is the only one of the two that prints it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Bytes of one message: escaped once more it is shorter than the channel's longest.
const PIECE: usize = 128 * 1024;
/// A longer document is not kept: no verb has so much to say.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What the worker has handed over so far. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Document {
    text: Arc<Mutex<String>>,
}

impl Document {
    /// The document, if all of it came.
    pub fn take(&self) -> Option<Value> {
        serde_json::from_str(&std::mem::take(&mut *self.text())).ok()
    }

    /// Adds a piece. One too many makes the document none.
    pub(super) fn add(&self, piece: &str) {
        let mut text = self.text();
        if text.len() + piece.len() <= MOST_BYTES {
            text.push_str(piece);
        }
    }

    fn text(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pieces in which a document is handed over.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let longest = PIECE.min(rest.len());
        let at = (0..=longest).rev().find(|&at| rest.is_char_boundary(at)).unwrap_or(longest);
        let (piece, after) = rest.split_at(at);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_of_many_pieces_is_the_same_and_a_part_of_one_is_none() {
        for length in [0, 10, PIECE, 3 * PIECE] {
            let whole = json!({ "schema": 1, "text": "ü\u{1b}".repeat(length) });
            let (text, document) = (whole.to_string(), Document::default());
            pieces(&text).for_each(|piece| document.add(piece));
            assert_eq!(document.take(), Some(whole));
            pieces(&text[..text.len() - 1]).for_each(|piece| document.add(piece));
            assert_eq!(document.take(), None);
        }
        assert_eq!(Document::default().take(), None);
    }
}
