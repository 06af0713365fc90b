//! Finds the tokens in a string.

use std::ops::Range;

use super::Syntax;

/// A piece of a string, as byte ranges of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text that stays.
    Text(Range<usize>),
    /// A token: `at` is where it opens, `body` what stands between the delimiters.
    Token { at: usize, body: Range<usize> },
}

/// Why a string cannot be cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// A token that opens here is never closed.
    Unclosed(usize),
    /// A token is closed here that was never opened.
    Stray(usize),
}

/// Cuts a string into text and tokens.
///
/// A closing delimiter in quotes inside a token is the token's text. One outside of any token is an error for
/// `<<…>>`, because it is nearly always a mistyped token (`<PROXY_PORT>>`) that would be found out much later; for
/// `{{…}}` it is text, because `}}` ends any nested JSON that a string may quote.
pub(super) fn pieces(text: &str, syntax: Syntax) -> Result<Vec<Piece>, Broken> {
    let (open, close) = (syntax.open(), syntax.close());
    let mut pieces = Vec::new();
    let mut from = 0;
    loop {
        let at = text[from..].find(open).map(|offset| from + offset);
        let plain = from..at.unwrap_or(text.len());
        if syntax == Syntax::Angles
            && let Some(stray) = text[plain.clone()].find(close)
        {
            return Err(Broken::Stray(from + stray));
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        let Some(at) = at else { return Ok(pieces) };
        let start = at + open.len();
        let length = end_of_token(&text[start..], close).ok_or(Broken::Unclosed(at))?;
        pieces.push(Piece::Token { at, body: start..start + length });
        from = start + length + close.len();
    }
}

/// The offset of the closing delimiter, skipping quoted text.
fn end_of_token(text: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((offset, c)) = chars.next() {
        match quote {
            None if text[offset..].starts_with(close) => return Some(offset),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(_) if c == '\\' => drop(chars.next()),
            Some(end) if c == end => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, syntax: Syntax) -> Result<Vec<String>, Broken> {
        let show = |piece: &Piece| match piece {
            Piece::Text(range) => text[range.clone()].to_owned(),
            Piece::Token { body, .. } => format!("[{}]", &text[body.clone()]),
        };
        pieces(text, syntax).map(|pieces| pieces.iter().map(show).collect())
    }

    #[test]
    fn tokens_are_cut_out() {
        let angles = |text| shown(text, Syntax::Angles);
        assert_eq!(angles(""), Ok(vec![]));
        assert_eq!(angles("a > b < c"), Ok(vec!["a > b < c".into()]));
        assert_eq!(angles("<<A>>:<< B >>x"), Ok(vec!["[A]".into(), ":".into(), "[ B ]".into(), "x".into()]));
        assert_eq!(angles("<<'>>'>>"), Ok(vec!["['>>']".into()]));
        assert_eq!(angles(r"<<'\'>>'>>"), Ok(vec![r"['\'>>']".into()]));
        assert_eq!(angles("<<>>"), Ok(vec!["[]".into()]));
        assert_eq!(angles("{{A}}"), Ok(vec!["{{A}}".into()]));
        assert_eq!(angles("ä<<A>>ö"), Ok(vec!["ä".into(), "[A]".into(), "ö".into()]));
    }

    #[test]
    fn braces_leave_quoted_json_alone() {
        assert_eq!(shown("{\"a\":{}} {{A}}}}", Syntax::Braces).unwrap().len(), 3);
    }

    #[test]
    fn broken_tokens_are_placed() {
        assert_eq!(shown("ab<<A", Syntax::Angles), Err(Broken::Unclosed(2)));
        assert_eq!(shown("<<A>> <<'>>", Syntax::Angles), Err(Broken::Unclosed(6)));
        assert_eq!(shown("<<A>>, <B>>", Syntax::Angles), Err(Broken::Stray(9)));
    }
}
