use std::fs::OpenOptions;
use std::io::Write;

use super::*;

struct Log {
    _folder: tempfile::TempDir,
    path: Utf8PathBuf,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("log")).unwrap();
        Self { _folder: folder, path }
    }

    fn append(&self, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

fn lines(follower: &mut Follower) -> Vec<String> {
    let mut lines = Vec::new();
    follower.poll(&mut |line| lines.push(line.to_owned()));
    lines
}

#[test]
fn a_line_comes_when_it_is_complete_however_it_was_written() {
    let log = Log::new();
    let mut follower = Follower::new(&log.path, 0);
    assert_eq!(lines(&mut follower), [""; 0], "the file need not be there");
    log.append("one\nserver rea");
    assert_eq!(lines(&mut follower), ["one"]);
    assert_eq!(follower.unfinished(), "server rea");
    log.append("dy\r\n");
    assert_eq!(lines(&mut follower), ["server ready"]);
    assert_eq!(follower.poll(&mut |_| ()), 0);
}

#[test]
fn another_follower_goes_on_where_this_one_stopped() {
    let log = Log::new();
    log.append("earlier\none\nhalf a li");
    let mut first = Follower::new(&log.path, 8);
    assert_eq!(first.told_until(), 8, "it has not looked yet");
    assert_eq!(lines(&mut first), ["one"]);
    let mut second = Follower::new(&log.path, first.told_until());
    log.append("ne\n");
    assert_eq!(lines(&mut second), ["half a line"]);
}

#[test]
fn colours_are_left_out_even_across_writes() {
    let log = Log::new();
    let mut follower = Follower::new(&log.path, 0);
    log.append("\u{1b}[1;3");
    lines(&mut follower);
    log.append("2mready\u{1b}[0m \u{1b}]0;title\u{7}now\n");
    assert_eq!(lines(&mut follower), ["ready now"]);
}

#[test]
fn what_was_there_before_is_left_out() {
    let log = Log::new();
    log.append("old\n");
    let mut follower = Follower::new(&log.path, 4);
    log.append("new\n");
    assert_eq!(lines(&mut follower), ["new"]);
}

#[test]
fn a_truncated_file_is_read_from_its_beginning() {
    let log = Log::new();
    let mut follower = Follower::new(&log.path, 0);
    log.append("a long first line\nand a rest");
    lines(&mut follower);
    fs::write(&log.path, "").unwrap();
    assert_eq!(lines(&mut follower), [""; 0]);
    log.append("new\n");
    assert_eq!(lines(&mut follower), ["new"]);
}

#[test]
fn a_rotated_file_is_read_out_and_the_new_one_after_it() {
    let log = Log::new();
    log.append("first\n");
    let mut follower = Follower::new(&log.path, 0);
    assert_eq!(lines(&mut follower), ["first"]);
    log.append("last words\n");
    fs::rename(&log.path, log.path.with_extension("1")).unwrap();
    log.append("new file\n");
    assert_eq!(lines(&mut follower), ["last words", "new file"]);
}

#[test]
fn a_deleted_file_is_read_on_and_a_new_one_found() {
    let log = Log::new();
    log.append("");
    let mut follower = Follower::new(&log.path, 0);
    lines(&mut follower);
    let mut writer = OpenOptions::new().append(true).open(&log.path).unwrap();
    fs::remove_file(&log.path).unwrap();
    writer.write_all(b"still here\n").unwrap();
    assert_eq!(lines(&mut follower), ["still here"]);
    log.append("back\n");
    assert_eq!(lines(&mut follower), ["back"]);
}

#[test]
fn an_endless_line_comes_in_pieces_and_nothing_is_lost() {
    let log = Log::new();
    let length = 3 * LONGEST_LINE + 5;
    log.append(&"x".repeat(length));
    let mut follower = Follower::new(&log.path, 0);
    let mut pieces = Vec::new();
    follower.finish(&mut |line| pieces.push(line.len()));
    assert!(pieces.iter().all(|&piece| piece <= LONGEST_LINE), "{pieces:?}");
    assert_eq!(pieces.iter().sum::<usize>(), length);
}

#[test]
fn of_a_backlog_the_end_comes_and_how_much_did_not() {
    let log = Log::new();
    log.append("first\n");
    let mut follower = Follower::new(&log.path, 0);
    lines(&mut follower);
    log.append(&"0123456789abcde\n".repeat(8 * 64 * 1024));
    log.append("last");
    let mut lines = Vec::new();
    follower.finish(&mut |line| lines.push(line.to_owned()));
    assert_eq!(lines.first().map(String::as_str), Some("[4194308 bytes left out]"));
    assert_eq!(lines.last().map(String::as_str), Some("last"));
}

#[test]
fn a_flood_is_read_in_bounded_looks() {
    let log = Log::new();
    log.append(&"0123456789abcde\n".repeat(AT_ONE_LOOK / 8));
    let mut follower = Follower::new(&log.path, 0);
    let mut looks = 0;
    while follower.poll(&mut |_| ()) > 0 {
        looks += 1;
        assert!(follower.partial.capacity() <= 4 * LONGEST_LINE);
    }
    assert!(looks >= 2, "{looks}");
}
