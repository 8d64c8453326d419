//! No secret passes, however the text around it is cut, and nothing else changes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use base64::Engine;
use bytes::Bytes;
use greenroom_config::mask::{MASK, Masks};
use proptest::prelude::*;

fn masked(masks: &Masks, chunks: &[&str]) -> String {
    let mut masker = masks.masker();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&masker.push(Bytes::copy_from_slice(chunk.as_bytes())));
    }
    out.extend_from_slice(&masker.finish());
    String::from_utf8(out).unwrap()
}

fn once(masks: &Masks, text: &str) -> String {
    let whole = masked(masks, &[text]);
    assert_eq!(masks.mask(text), whole);
    whole
}

#[test]
fn a_secret_is_masked_and_nothing_else() {
    let masks = Masks::new(["hunter2!", "short", "größe-wort"]);
    assert_eq!(once(&masks, "a hunter2!b hunter2 größe-wort short\n"), "a ***b hunter2 *** short\n");
    assert_eq!(masked(&masks, &["hun", "ter", "2", "!x"]), "***x");
    assert_eq!(masked(&masks, &["hun", "ter", "3"]), "hunter3");
    assert_eq!(masked(&masks, &["hunter2"]), "hunter2");
    assert!(Masks::new(["short"]).is_empty());
    let masks = Masks::new(["amqp://ann:hunter2!@mq.example.org/%2f"]);
    assert_eq!(once(&masks, "hunter2! at mq.example.org"), "*** at mq.example.org");
}

#[test]
fn text_goes_on_unless_its_end_may_be_a_secret() {
    let masks = Masks::new(["hunter2!"]);
    let mut masker = masks.masker();
    let text = Bytes::from_static(b"nothing to see here\n");
    let pushed = masker.push(text.clone());
    assert_eq!((pushed.as_ptr(), pushed.len()), (text.as_ptr(), text.len()), "it was copied");
    assert_eq!(masker.push(Bytes::from_static(b"prompt hunt")), "prompt ");
    assert_eq!(masker.push(Bytes::from_static(b"ing")), "hunting");
}

#[test]
fn other_writings_are_masked_too() {
    let secret = "pa ss/w\"örd'+\\42";
    let masks = Masks::new([secret]);
    let percent = "pa%20ss%2Fw%22%C3%B6rd%27%2B%5C42";
    for text in [
        percent.to_owned(),
        percent.replace("%20", "+").to_lowercase(),
        percent.replace("%2F", "/"),
        serde_json::to_string(secret).unwrap().trim_matches('"').to_owned(),
        "pa ss/w\"örd'\\''+\\42".to_owned(),
    ] {
        assert_eq!(once(&masks, &format!("<{text}>")), "<***>", "{text}");
    }
    for before in ["", "u", "us", "usr", "user"] {
        for after in ["", "x", "xy", "xyz"] {
            for engine in
                [&base64::engine::general_purpose::STANDARD, &base64::engine::general_purpose::URL_SAFE]
            {
                let text = engine.encode(format!("{before}{secret}{after}"));
                let found = once(&masks, &text);
                // At each end a character may be left, of which at most four bits are the secret's.
                let left = found.replace(MASK, "").trim_end_matches('=').len();
                assert!(
                    found.contains(MASK) && left <= before.len().div_ceil(3) * 4 + after.len() + 2,
                    "{text}: {found}"
                );
            }
        }
    }
}

#[test]
fn each_line_of_a_key_is_masked() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";
    let key = format!("-----BEGIN KEY-----\n{line}\nabc\n{line}x\n-----END KEY-----\n");
    let masks = Masks::new([key.as_str()]);
    assert_eq!(once(&masks, &key), "***");
    assert_eq!(once(&masks, &format!("+ {line}\r\n")), "+ ***\r\n");
    assert_eq!(once(&masks, &key.replace('\n', "\\n")), "***");
    let encoded = base64::engine::general_purpose::STANDARD.encode(&key);
    for wrap in [64, 76] {
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(wrap).map(|it| std::str::from_utf8(it).unwrap()).collect();
        for masked in once(&masks, &lines.join("\n")).lines() {
            assert!(masked.starts_with(MASK) && masked.len() <= MASK.len() + 2, "{masked}");
        }
    }
    let long: String = (0..4_000).map(|it| format!("{it:x}.")).collect();
    let masks = Masks::new([long.as_str()]);
    assert_eq!(once(&masks, &format!("a{long}b")).replace(MASK, ""), "ab");
}

proptest! {
    /// Few letters, so that secrets overlap themselves, one another, and the places of the cuts.
    #[test]
    fn how_text_is_cut_changes_nothing(
        secrets in prop::collection::vec("[ab]{6,9}|[aé]{4,8}b", 1..4),
        text in "[abé]{0,120}",
        cuts in prop::collection::vec(0usize..121, 0..12),
    ) {
        let masks = Masks::new(secrets.iter().map(String::as_str));
        let mut cuts: Vec<usize> = cuts.into_iter().map(|it| text.floor_char_boundary(it.min(text.len()))).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&str> = cuts.windows(2).map(|it| &text[it[0]..it[1]]).collect();
        let whole = once(&masks, &text);
        prop_assert_eq!(masked(&masks, &chunks), whole.clone());
        for secret in secrets.iter().filter(|it| it.len() >= 6) {
            prop_assert!(!whole.contains(secret.as_str()));
        }
    }

    #[test]
    fn secrets_in_any_text_and_cut_do_not_pass(
        secret in "[!-~]{8,40}",
        around in prop::collection::vec("[ -~\n]{0,30}", 1..5),
        step in 1usize..50,
    ) {
        let text = around.join(&secret);
        let masks = Masks::new([secret.as_str()]);
        let chunks: Vec<&str> = text.as_bytes().chunks(step).map(|it| std::str::from_utf8(it).unwrap()).collect();
        let found = masked(&masks, &chunks);
        prop_assert!(!found.contains(&secret), "{found}");
        prop_assert_eq!(found, once(&masks, &text));
    }
}
