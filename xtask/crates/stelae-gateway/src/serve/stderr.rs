//! What a server writes to stderr: passed on into the gateway's log by the line, without the secrets that the gateway knows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use stelae_model::hidden::Hidden;
use stelae_model::throttle::{Admission, Throttle};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use super::log;

/// Of a server that floods no more than this is told on: one that does must not fill the disk with the gateway's log.
const LINES_PER_SECOND: usize = 200;
/// A longer line is cut into pieces of about this size.
const LINE_BYTES: u64 = 8 * 1024;
/// So many of its last lines are kept to explain its end.
const LAST_LINES: usize = 10;
/// Characters that are kept of each of them.
const LONGEST_KEPT: usize = 200;

/// The last lines that a server wrote, oldest first.
pub(super) type LastLines = Arc<Mutex<VecDeque<String>>>;

/// Passes each line on, under the server's name, until the pipe is closed.
pub(super) async fn relay(
    name: String,
    stderr: impl AsyncRead + Unpin,
    confided: Hidden,
    last_lines: LastLines,
) {
    let mut throttle = Throttle::new(LINES_PER_SECOND);
    let begun = Instant::now();
    let tell = |text: &str| {
        if let Admission::Tell { after_leaving_out } = throttle.admit(begun.elapsed()) {
            if after_leaving_out > 0 {
                log::line(&name, format_args!("({after_leaving_out} lines left out)"));
            }
            log::line(&name, format_args!("{text}"));
        }
        if !text.trim().is_empty() {
            let mut last_lines = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
            last_lines.push_back(text.trim().chars().take(LONGEST_KEPT).collect());
            if last_lines.len() > LAST_LINES {
                last_lines.pop_front();
            }
        }
    };
    each_line(stderr, &confided, tell).await;
}

/// Gives each line, masked; of one that is too long, pieces of which none ends within a secret.
async fn each_line(stderr: impl AsyncRead + Unpin, confided: &Hidden, mut tell: impl FnMut(&str)) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(count @ 1..) = (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).await {
        // Fewer bytes without a newline are the last ones.
        let whole = line.ends_with(b"\n") || (count as u64) < LINE_BYTES;
        let kept = if whole { Vec::new() } else { line.split_off(whole_characters(&line)) };
        let text = String::from_utf8_lossy(&line).into_owned();
        let end = if whole { text.len() } else { confided.complete(&text) };
        if whole || end > 0 {
            tell(confided.masked(&text[..end]).trim_end());
        }
        line = text.as_bytes()[end..].to_vec();
        line.extend(kept);
    }
    if !line.is_empty() {
        tell(confided.masked(&String::from_utf8_lossy(&line)).trim_end());
    }
}

/// Where the last character that is there as a whole ends.
fn whole_characters(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let starts = (from..bytes.len()).rev().find(|&at| bytes[at] >= 0xc0);
    match starts.map(|at| (at, std::str::from_utf8(&bytes[at..]))) {
        Some((at, Err(error))) if error.error_len().is_none() => at,
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str) -> Hidden {
        let mut hidden = Hidden::default();
        hidden.hide(text);
        hidden
    }

    async fn lines(said: &[u8], confided: &Hidden) -> Vec<String> {
        let mut lines = Vec::new();
        each_line(said, confided, |line| lines.push(line.to_owned())).await;
        lines
    }

    #[tokio::test]
    async fn last_words_quote_no_secret_not_even_the_beginning_of_one() {
        let confided = hidden("hun\"ter");
        for (said, kept) in [
            ("no entry with hun\"ter\n", "no entry with (secret)"),
            (&format!("{}hun\"ter", "x".repeat(196)), "x(sec"),
        ] {
            let last_lines = LastLines::default();
            relay("a".to_owned(), said.as_bytes(), confided.clone(), Arc::clone(&last_lines)).await;
            let words = last_lines.lock().unwrap().iter().cloned().collect::<String>();
            assert!(words.ends_with(kept) && !words.contains("hun"), "{words}");
        }
    }

    #[tokio::test]
    async fn only_the_last_lines_are_kept() {
        let last_lines = LastLines::default();
        let said: String = (0..100).map(|number| format!("{number}\n\n")).collect();
        relay("a".to_owned(), said.as_bytes(), Hidden::default(), Arc::clone(&last_lines)).await;
        let expected: Vec<_> = (90..100).map(|number| number.to_string()).collect();
        assert_eq!(*last_lines.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_secret_is_masked_wherever_a_long_line_is_cut() {
        let secret = "hünter2-of-the-gateway";
        let confided = hidden(secret);
        for before in (8_192 - 50)..(8_192 + 50) {
            let said =
                format!("{}{secret}{}{secret}\nnext {secret}\n", "x".repeat(before), "y".repeat(9_000));
            let lines = lines(said.as_bytes(), &confided).await;
            let all = lines.concat();
            assert_eq!(all.matches("(secret)").count(), 3, "{before}");
            assert!(
                !all.contains("gateway") && !all.contains("hünt") && !all.contains('\u{fffd}'),
                "{before}"
            );
            assert_eq!(lines.last().unwrap(), "next (secret)");
            assert_eq!(all.len(), before + 9_000 + "next ".len() + 3 * "(secret)".len(), "nothing is lost");
        }
    }

    #[tokio::test]
    async fn lines_stay_lines_also_without_secrets_and_without_utf8() {
        let said = [b"a\n\nb\xff\xc3\n", &[b'x'; 20_000][..], b"\nlast\xc3"].concat();
        let lines = lines(&said, &Hidden::default()).await;
        assert_eq!(lines[..3], ["a", "", "b\u{fffd}\u{fffd}"]);
        assert_eq!(lines[3..lines.len() - 1].concat(), "x".repeat(20_000));
        assert_eq!(lines.last().unwrap(), "last\u{fffd}");
    }
}
