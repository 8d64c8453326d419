//! What a mail says: the built-in templates, or those of the user.

use std::sync::LazyLock;

use greenroom_config::Mail;
use greenroom_config::values::{Escape, Template, TemplateFault};
use serde_json::{Value, json};

use crate::payload::payload;
use crate::transport::Outgoing;

/// The text of a mail.
pub(super) struct Rendered {
    /// Its subject.
    pub subject: String,
    /// As plain text.
    pub text: String,
    /// As HTML.
    pub html: String,
    /// What was wrong with the user's templates, if the built-in ones had to take their place.
    pub fault: Option<TemplateFault>,
}

static SUBJECT: LazyLock<Result<Template, TemplateFault>> = LazyLock::new(|| {
    Template::parse("subject", include_str!("templates/subject.txt").trim_end(), Escape::Plain)
});
static TEXT: LazyLock<Result<Template, TemplateFault>> =
    LazyLock::new(|| Template::parse("mail.txt", include_str!("templates/mail.txt"), Escape::Plain));
static HTML: LazyLock<Result<Template, TemplateFault>> =
    LazyLock::new(|| Template::parse("mail.html", include_str!("templates/mail.html"), Escape::Html));

/// Renders a message. A template of the user that fails (it was tried at load, but builds can be odder than samples) gives way to the
/// built-in one: a mail that looks otherwise is better than none.
pub(super) fn render(config: &Mail, message: &Outgoing) -> Rendered {
    let mut values = payload(message);
    shorten_tails(&mut values, config.tail as usize);
    let mut fault = None;
    let mut part = |own: Option<&Template>, built_in: &Result<Template, TemplateFault>, plain: &str| {
        if let Some(own) = own {
            match own.render(&values) {
                Ok(text) => return text,
                Err(it) => fault = Some(it),
            }
        }
        let built_in = built_in.as_ref().map_err(Clone::clone).and_then(|it| it.render(&values));
        built_in.unwrap_or_else(|it| {
            fault.get_or_insert(it);
            plain.to_owned()
        })
    };
    let plain = message.notice.subject();
    Rendered {
        subject: part(config.subject.as_ref(), &SUBJECT, &plain),
        text: without_gaps(&part(config.text_template.as_ref(), &TEXT, &plain)),
        html: part(config.html_template.as_ref(), &HTML, ""),
        fault,
    }
}

/// At most one empty line at a time: parts of a template that have nothing to say leave gaps.
fn without_gaps(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut empty = true;
    for line in text.lines() {
        if !line.trim().is_empty() || !empty {
            tidy.push_str(line);
            tidy.push('\n');
        }
        empty = line.trim().is_empty();
    }
    tidy
}

/// Leaves the last lines of each log's end, as many as are configured.
fn shorten_tails(values: &mut Value, most: usize) {
    let shorten = |build: &mut Value| {
        if let Some(tail) = build.pointer_mut("/step/tail").and_then(Value::as_array_mut) {
            let lines = tail.split_off(tail.len().saturating_sub(most));
            *tail =
                lines.iter().map(|line| json!(without_controls(line.as_str().unwrap_or_default()))).collect();
        }
    };
    shorten(&mut values["build"]);
    if let Some(builds) = values.pointer_mut("/buildset/builds").and_then(Value::as_array_mut) {
        builds.iter_mut().for_each(shorten);
    }
}

/// A line of a log as readers without a terminal want it: no colours, no bells.
pub(super) fn without_controls(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(it) = rest.next() {
        match it {
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                // The sequence ends with a letter or one of a few signs.
                while rest.next_if(|it| !('\u{40}'..='\u{7e}').contains(it)).is_some() {}
                rest.next();
            }
            '\t' => clean.push('\t'),
            it if it.is_control() => {}
            it => clean.push(it),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;
    use crate::notice::{BuildNotice, Notice};

    fn config(more: serde_json::Value) -> Mail {
        let mut all =
            json!({"relay": "smtp://127.0.0.1:25", "from": "ci@example.org", "to": ["a@example.org"]});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn failed() -> Rendered {
        render(&config(json!({})), &examples::outgoing(Notice::Build(Box::new(examples::failed()))))
    }

    #[test]
    fn the_built_in_templates_render_every_sort_of_message() {
        for message in examples::all() {
            let made = render(&config(json!({})), &message);
            assert_eq!(made.fault, None, "{}", message.notice.subject());
            assert!(made.subject.starts_with("[Example CI] "), "{}", made.subject);
            assert!(made.text.len() > 60 && made.html.contains("</html>"));
            assert!(!made.text.contains("\n\n\n"), "no gaps: {}", made.text);
            // For looking at them in a browser.
            if let Some(dir) = std::env::var_os("RENDER_MAILS_TO") {
                let name = format!("{}.html", message.notice.subject().replace([' ', '#'], "-"));
                std::fs::write(std::path::Path::new(&dir).join(name), &made.html).unwrap();
            }
        }
    }

    #[test]
    fn a_failure_says_what_people_want_to_know() {
        let made = failed();
        assert_eq!(made.subject, "[Example CI] linux failed on main: test");
        for part in [
            "https://ci.example.org/#/builders/1/builds/42",
            "main at 0123456789ab",
            "Was good: #41",
            "expected ';' before '}' token",
            "| make: *** [Makefile:3: main.o] Error 1",
            "logs/stdio",
            "* Count from zero",
            "Ada Lovelace <ada@example.org>",
            "and 1 more",
        ] {
            assert!(made.text.contains(part), "{part} in:\n{}", made.text);
        }
        for part in
            ["#41", "Count from zero", "Ada Lovelace &lt;ada@example.org&gt;", "expected &#x27;;&#x27;"]
        {
            assert!(made.html.contains(part), "{part} in:\n{}", made.html);
        }
    }

    #[test]
    fn nothing_of_a_build_becomes_html() {
        let evil = "<script>alert(1)</script><img src=x onerror=y>".to_owned();
        let mut notice = examples::failed();
        let mut step = notice.step.take().unwrap();
        (step.name, step.state_string) = (evil.clone(), evil.clone());
        (step.first_error, step.tail) = (Some(evil.clone()), vec![evil.clone()]);
        notice.step = Some(step);
        for change in &mut notice.changes {
            (change.author, change.comments) = (evil.clone(), evil.clone());
            change.revlink = Some("javascript:alert(1)".to_owned());
        }
        for source in &mut notice.sources {
            (source.branch, source.repository) = (Some(evil.clone()), evil.clone());
        }
        let notice = BuildNotice { builder_name: evil.clone(), worker: evil.clone(), reason: evil, ..notice };
        let made = render(&config(json!({})), &examples::outgoing(Notice::Build(Box::new(notice))));
        assert!(made.html.contains("&lt;script&gt;"));
        for bad in ["<script", "<img", "javascript:"] {
            assert!(!made.html.contains(bad), "{bad} in:\n{}", made.html);
        }
    }

    #[test]
    fn the_tail_is_as_long_as_configured_and_without_colours() {
        let mut notice = examples::failed();
        if let Some(step) = &mut notice.step {
            step.tail = (0..100).map(|it| format!("\u{1b}[1;31mline\u{1b}[0m {it}\u{7}")).collect();
        }
        let made = render(&config(json!({"tail": 3})), &examples::outgoing(Notice::Build(Box::new(notice))));
        let lines: Vec<&str> = made.text.lines().filter(|it| it.starts_with("  | ")).collect();
        assert_eq!(lines, ["  | line 97", "  | line 98", "  | line 99"]);
    }

    #[test]
    fn the_users_templates_are_used_and_give_way_when_they_fail() {
        // The check at load wants to see all sorts of messages rendered, hence the first condition.
        let subject = "{% if build %}{{ build.builder.name }}!{% if build.properties.kind %}{{ 1 // 0 }}{% endif %}{% endif %}";
        let own = config(json!({"subject": subject}));
        let mut notice = examples::failed();
        let made = render(&own, &examples::outgoing(Notice::Build(Box::new(notice.clone()))));
        assert_eq!((made.subject.as_str(), made.fault), ("linux!", None));
        notice.properties.insert("kind".into(), json!("odd"));
        let made = render(&own, &examples::outgoing(Notice::Build(Box::new(notice))));
        assert_eq!(made.subject, "[Example CI] linux failed on main: test");
        assert!(made.fault.is_some());
    }
}
