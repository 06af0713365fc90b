//! Text for a terminal. What others wrote (tools, servers, agents, file names, repositories) may hold characters that move the
//! cursor, recolour or hide text, or reorder a line. Each of them is shown as the escape that stands for it, and no text of
//! others begins a line of its own.
//!
//! Only text that was made here is printed: see [`shown`] for one line, and [`Lines`] for several. JSON keeps every character
//! and escapes it: see [`shown_json`].

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// What stands before the second and every further line of a text that was to be one line.
pub const CONTINUED: &str = "    | ";
/// More combining marks on one character grow into the lines above and below it.
const MOST_MARKS: usize = 4;

/// The text as one line: every character that a reader does not see, or that does something to a terminal, is an escape
/// (`\n`, `\x1b`, `\u{202e}`). Tabs stay. The result has no other control character, and is shown as it is.
///
/// ```
/// # use stelae_model::terminal::shown;
/// assert_eq!(shown("a\rpass (0)\n\u{1b}[2J"), r"a\rpass (0)\n\x1b[2J");
/// assert_eq!(shown("plain, ünd mehr"), "plain, ünd mehr");
/// ```
pub fn shown(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    // At the beginning there is no character of the text that a mark could stand on.
    let mut marks = MOST_MARKS;
    for c in text.chars() {
        match class(c) {
            Class::Visible => marks = 0,
            Class::Mark if marks < MOST_MARKS => marks += 1,
            Class::Mark | Class::Hidden => {
                shown.push_str(&escape(c));
                marks = 0;
                continue;
            }
        }
        shown.push(c);
    }
    Cow::Owned(shown)
}

/// The arguments of a command line, each as [`shown`]: for who quotes one of them.
pub fn shown_arguments(args: impl Iterator<Item = std::ffi::OsString>) -> Vec<String> {
    args.map(|arg| shown(&arg.to_string_lossy()).into_owned()).collect()
}

/// A JSON text whose strings hold only what is visible: the same value, with `\uXXXX` for everything else.
pub fn shown_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // Outside of its strings JSON has no other character below the space.
        if c == '\n' || !matches!(class(c), Class::Hidden) {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing into a string does not fail.
                write!(escaped, "\\u{unit:04x}").ok();
            }
        }
    }
    escaped
}

/// The text as one word of a shell's command line: copied from a terminal and typed, it is the same text again. Invisible
/// characters need `$'…'`, which bash, zsh, ksh and the shell of POSIX 2024 read.
///
/// ```
/// # use stelae_model::terminal::shell_word;
/// assert_eq!(shell_word("/a/b-1.txt"), "/a/b-1.txt");
/// assert_eq!(shell_word("it's; $(x)"), r"'it'\''s; $(x)'");
/// assert_eq!(shell_word("a\n'b\u{1b}"), r"$'a\012\'b\033'");
/// ```
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if shown(word) == word && !word.contains('\t') {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut quoted = "$'".to_owned();
    for c in word.chars() {
        match class(c) {
            Class::Visible if c == '\'' || c == '\\' => quoted.extend(['\\', c]),
            Class::Visible if c != '\t' => quoted.push(c),
            _ => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    write!(quoted, "\\{byte:03o}").ok();
                }
            }
        }
    }
    quoted + "'"
}

/// Lines that may be printed. A value that is put into one of them ends no line and begins none.
///
/// ```
/// # use stelae_model::terminal::Lines;
/// let lines: Lines = ["a", "b\npass (0)"].iter().collect();
/// assert_eq!(lines.to_string(), "a\nb\\npass (0)\n");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(String);

impl Lines {
    /// One line.
    pub fn one(line: impl AsRef<str>) -> Self {
        std::iter::once(line).collect()
    }

    /// A text of several lines, each after `before`.
    pub fn block(before: &str, text: &str) -> Self {
        text.split_terminator('\n').map(|line| format!("{before}{line}")).collect()
    }

    /// Adds a line.
    pub fn push(&mut self, line: impl AsRef<str>) {
        self.0.push_str(&shown(line.as_ref()));
        self.0.push('\n');
    }

    /// Adds all lines of others.
    pub fn append(&mut self, more: &Self) {
        self.0.push_str(&more.0);
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines, each with its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<S: AsRef<str>> FromIterator<S> for Lines {
    fn from_iter<I: IntoIterator<Item = S>>(lines: I) -> Self {
        let mut all = Self::default();
        all.extend(lines);
        all
    }
}

impl<S: AsRef<str>> Extend<S> for Lines {
    fn extend<I: IntoIterator<Item = S>>(&mut self, lines: I) {
        lines.into_iter().for_each(|line| self.push(line));
    }
}

/// Writes a text that may have several lines: the first as it is, the others after [`CONTINUED`].
pub(crate) fn write_continued(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut lines = text.lines();
    f.write_str(&shown(lines.next().unwrap_or_default()))?;
    lines.try_for_each(|line| {
        // A text that was shown before is not indented once more.
        let line = line.strip_prefix(CONTINUED).unwrap_or(line);
        write!(f, "\n{CONTINUED}{}", shown(line))
    })
}

/// What a character does on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// It takes a place of its own.
    Visible,
    /// It stands on the one before it.
    Mark,
    /// It is not seen, or is taken for a command.
    Hidden,
}

/// The standard library knows which characters are visible: its `escape_debug` escapes controls, formats (bidirectional
/// overrides, joiners, tags), private, unassigned and separator characters, and marks.
fn class(c: char) -> Class {
    if matches!(c, ' ' | '\t') || c.is_ascii_graphic() {
        Class::Visible
    } else if c.is_ascii() || is_blank(c) {
        Class::Hidden
    } else if c.escape_debug().next() == Some(c) {
        Class::Visible
    } else if format!("a{c}").escape_debug().nth(1) == Some(c) {
        // Only at the beginning of a text it would be escaped.
        Class::Mark
    } else {
        Class::Hidden
    }
}

/// Characters that Unicode counts among the letters and marks, and that are not drawn (`Default_Ignorable_Code_Point`).
fn is_blank(c: char) -> bool {
    matches!(c,
        '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2800}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}')
}

fn escape(c: char) -> String {
    match c {
        '\n' => r"\n".to_owned(),
        '\r' => r"\r".to_owned(),
        // Two digits for what a byte can be: so these are written everywhere.
        '\0'..='\u{ff}' => format!("\\x{:02x}", u32::from(c)),
        _ => format!("\\u{{{:x}}}", u32::from(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind of what a terminal acts upon, or does not show.
    const HOSTILE: [&str; 30] = [
        "\u{1b}[2J",
        "\u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{1b}\\",
        "\u{1b}P1$r\u{1b}\\",
        "\u{1b}_apc\u{1b}\\",
        "\u{1b}^pm\u{1b}\\",
        "\u{1b}Xsos\u{1b}\\",
        "\u{9b}31m",
        "\u{9d}0;title\u{9c}",
        "\u{85}",
        "\r",
        "\n",
        "\u{8}",
        "\u{b}",
        "\u{c}",
        "\0",
        "\u{7f}",
        "\u{202e}",
        "\u{2066}",
        "\u{200e}",
        "\u{61c}",
        "\u{2028}",
        "\u{2029}",
        "\u{200b}",
        "\u{200d}",
        "\u{feff}",
        "\u{e0041}",
        "\u{fe0f}",
        "\u{fffe}",
        "\u{e000}",
        "\u{3164}",
    ];

    fn is_safe(text: &str) -> bool {
        text.chars().all(|c| c == '\t' || class(c) == Class::Visible || class(c) == Class::Mark)
    }

    #[test]
    fn what_a_terminal_acts_upon_is_an_escape_and_what_it_shows_stays() {
        for hostile in HOSTILE {
            let text = format!("before {hostile} after");
            let one = shown(&text);
            assert!(is_safe(&one) && one.contains('\\') && one.lines().count() == 1, "{hostile:?}: {one:?}");
            assert_eq!(shown(&one), one, "what is shown once is shown the same again");
        }
        for plain in
            ["", "a\tb 'c' \"d\" \\e ~", "Grüße, Привет, 你好, שלום, 🙂 ✓ ─│ « »", "e\u{301} नमस्ते ไทย"]
        {
            assert_eq!(shown(plain), plain);
        }
        assert_eq!(shown("\u{202e}\u{9b}\u{e0041}"), r"\u{202e}\x9b\u{e0041}");
    }

    #[test]
    fn every_character_of_one_byte_and_every_control_of_two_is_safe() {
        for code in (0..=0x2fff).chain(0xf000..=0x1_00ff).chain(0xe_0000..=0xe_0fff) {
            let Some(c) = char::from_u32(code) else { continue };
            let one = shown(&format!("a{c}b")).into_owned();
            assert!(is_safe(&one), "{code:x}: {one:?}");
            assert!(!c.is_control() || c == '\t' || one.len() > 3, "{code:x}: {one:?}");
        }
    }

    #[test]
    fn marks_stand_on_a_character_and_not_on_all_lines_around_it() {
        assert_eq!(shown("\u{301}a"), r"\u{301}a");
        let pile = format!("a{}", "\u{301}".repeat(30));
        assert!(shown(&pile).contains(r"\u{301}"), "{}", shown(&pile));
    }

    #[test]
    fn a_json_text_keeps_its_value_and_has_nothing_but_what_is_visible() {
        for hostile in HOSTILE {
            let value = serde_json::json!({ hostile: [hostile, 1] });
            for text in [value.to_string(), format!("{value:#}")] {
                let escaped = shown_json(&text);
                assert!(escaped.lines().all(is_safe), "{escaped:?}");
                assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
            }
        }
    }

    #[test]
    fn a_shell_word_is_visible_and_has_no_line_of_its_own() {
        for hostile in HOSTILE {
            let word = shell_word(&format!("a {hostile}'\\ $(b)"));
            assert!(is_safe(&word) && word.starts_with("$'"), "{word:?}");
        }
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("a\tb"), r"$'a\011b'");
    }

    #[test]
    fn of_a_text_with_several_lines_each_is_one() {
        assert_eq!(Lines::block("  ", "a\nb\r\n\u{1b}[1A\n").as_str(), "  a\n  b\\r\n  \\x1b[1A\n");
        let mut lines = Lines::one("x\ny");
        lines.append(&Lines::one("z"));
        assert_eq!((lines.as_str(), Lines::default().is_empty()), ("x\\ny\nz\n", true));
    }
}
