//! Strings with `${{ … }}` in them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

use super::{Expr, ExprError, Scope};

/// A part of a string.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Segment {
    /// As it stands.
    Text(String),
    /// `${{ … }}`, with its place in the string.
    Expr(Expr, Range<usize>),
}

impl Segment {
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Segment::Text(_) => &[],
            Segment::Expr(expr, _) => expr.secrets(),
        };
        names.iter().map(String::as_str)
    }
}

/// Whether a secret may stand in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrets {
    Allowed,
    Refused,
}

/// A string that may hold `${{ … }}`; `$${{` stands for the characters `${{` themselves.
#[derive(Clone, Default, PartialEq)]
pub struct Template {
    source: String,
    segments: Vec<Segment>,
}

impl Template {
    /// Reads a string.
    ///
    /// # Errors
    /// When a `${{` is not closed or an expression is malformed; the span is in `text`.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        Self::of(text, split(text, Secrets::Refused)?)
    }

    /// As [`Template::parse`], for a value that becomes an environment variable: a secret may stand in it.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse_environment(text: &str) -> Result<Self, ExprError> {
        Self::of(text, split(text, Secrets::Allowed)?)
    }

    fn of(text: &str, segments: Vec<Segment>) -> Result<Self, ExprError> {
        for segment in &segments {
            if let Segment::Expr(expr, span) = segment
                && expr.is_raw()
            {
                let help = "leave raw() out: only the shell needs protection";
                return Err(ExprError::new("raw() belongs into a `run` string", help, span.clone()));
            }
        }
        Ok(Template { source: text.to_owned(), segments })
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text, if there is no expression in it.
    pub fn as_literal(&self) -> Option<&str> {
        match self.segments.as_slice() {
            [] => Some(""),
            [Segment::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The names of the secrets in it.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().flat_map(Segment::secrets)
    }

    /// The value: of the expression's own type when the template is one whole `${{ … }}`, else text.
    ///
    /// # Errors
    /// When an expression cannot be evaluated.
    pub fn render(&self, scope: &Scope) -> Result<Json, ExprError> {
        match self.whole() {
            Some((expr, span)) => evaluate(expr, span, scope),
            None => self.render_text(scope).map(Json::String),
        }
    }

    /// The value as text: strings as they are, nothing for null, JSON for lists and maps.
    ///
    /// # Errors
    /// When an expression cannot be evaluated.
    pub fn render_text(&self, scope: &Scope) -> Result<String, ExprError> {
        let mut text = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Text(part) => text.push_str(part),
                Segment::Expr(expr, span) => text.push_str(&to_text(&evaluate(expr, span, scope)?)),
            }
        }
        Ok(text)
    }

    /// The expression, if the template is nothing else.
    fn whole(&self) -> Option<(&Expr, &Range<usize>)> {
        match self.segments.as_slice() {
            [Segment::Expr(expr, span)] => Some((expr, span)),
            _ => None,
        }
    }

    /// Puts the value into a list: a whole `${{ … }}` that gives a list splices, one that gives null drops.
    pub(super) fn render_into(&self, list: &mut Vec<Json>, scope: &Scope) -> Result<(), ExprError> {
        match (self.render(scope)?, self.whole().is_some()) {
            (Json::Array(items), true) => list.extend(items),
            (Json::Null, true) => {}
            (value, _) => list.push(value),
        }
        Ok(())
    }
}

pub(super) fn evaluate(expr: &Expr, span: &Range<usize>, scope: &Scope) -> Result<Json, ExprError> {
    expr.evaluate(scope).map_err(|error| ExprError { span: span.clone(), ..error })
}

/// A value as it stands in text.
pub(crate) fn to_text(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Takes a string apart.
pub(crate) fn split(text: &str, secrets: Secrets) -> Result<Vec<Segment>, ExprError> {
    let mut segments = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${{") {
        let open = at + found;
        if text[..open].ends_with('$') && open > at {
            plain.push_str(&text[at..open - 1]);
            plain.push_str("${{");
            at = open + 3;
            continue;
        }
        plain.push_str(&text[at..open]);
        let start = open + 3;
        let Some(length) = expression_end(&text[start..]) else {
            return Err(ExprError::new(
                "`${{` without its `}}`",
                "write $${{ for the characters themselves",
                open..start,
            ));
        };
        let source = &text[start..start + length];
        let expr = match secrets {
            Secrets::Allowed => Expr::parse_anywhere(source),
            Secrets::Refused => Expr::parse(source),
        };
        let expr = expr.map_err(|error| error.shifted(start))?;
        if !plain.is_empty() {
            segments.push(Segment::Text(std::mem::take(&mut plain)));
        }
        at = start + length + 2;
        segments.push(Segment::Expr(expr, open..at));
    }
    plain.push_str(&text[at..]);
    if !plain.is_empty() {
        segments.push(Segment::Text(plain));
    }
    Ok(segments)
}

/// The length of an expression up to its `}}`, which is not one in a string or of a nested map.
fn expression_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                let raw = at > 0 && matches!(bytes[at - 1], b'r' | b'R');
                at = string_end(bytes, at, quote, raw)?;
                continue;
            }
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The position after a string literal of CEL that begins at `at`.
fn string_end(bytes: &[u8], at: usize, quote: u8, raw: bool) -> Option<usize> {
    let triple = bytes[at..].starts_with(&[quote; 3]);
    let close: &[u8] = if triple { &[quote; 3] } else { &[quote] };
    let mut at = at + close.len();
    while at < bytes.len() {
        if bytes[at] == b'\\' && !raw {
            at += 2;
        } else if bytes[at..].starts_with(close) {
            return Some(at + close.len());
        } else {
            at += 1;
        }
    }
    None
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TemplateVisitor(Secrets::Refused))
    }
}

/// Reads the values of an environment, in which secrets may stand.
///
/// # Errors
/// As [`Template::parse_environment`].
pub(crate) fn environment<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Template>, D::Error> {
    struct Value(Template);
    impl<'de> Deserialize<'de> for Value {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(TemplateVisitor(Secrets::Allowed)).map(Value)
        }
    }
    let values = BTreeMap::<String, Value>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|(name, value)| (name, value.0)).collect())
}

/// Takes strings, and numbers and booleans as the text they are written as.
struct TemplateVisitor(Secrets);

impl Visitor<'_> for TemplateVisitor {
    type Value = Template;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Template, E> {
        let template = match self.0 {
            Secrets::Allowed => Template::parse_environment(text),
            Secrets::Refused => Template::parse(text),
        };
        template.map_err(ExprError::into_serde)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Template, E> {
        self.visit_str(if value { "true" } else { "false" })
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Template, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Template, E> {
        self.visit_str(&value.to_string())
    }
}

/// A value of any type whose strings may hold `${{ … }}`.
#[derive(Clone, Debug, PartialEq)]
pub enum TemplateValue {
    /// A number, a boolean or null.
    Plain(Json),
    /// A string.
    Text(Template),
    /// A list; an element that is one whole `${{ … }}` splices a list and drops null.
    List(Vec<TemplateValue>),
    /// A map.
    Map(BTreeMap<String, TemplateValue>),
}

impl TemplateValue {
    /// The value with all its strings rendered.
    ///
    /// # Errors
    /// When an expression cannot be evaluated.
    pub fn render(&self, scope: &Scope) -> Result<Json, ExprError> {
        match self {
            TemplateValue::Plain(value) => Ok(value.clone()),
            TemplateValue::Text(template) => template.render(scope),
            TemplateValue::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    match item {
                        TemplateValue::Text(template) => template.render_into(&mut list, scope)?,
                        other => list.push(other.render(scope)?),
                    }
                }
                Ok(Json::Array(list))
            }
            TemplateValue::Map(map) => {
                let entries = map.iter().map(|(key, value)| Ok((key.clone(), value.render(scope)?)));
                entries.collect::<Result<_, _>>().map(Json::Object)
            }
        }
    }
}

/// Reads each string where it stands, so that a fault has the path of that string.
impl<'de> Deserialize<'de> for TemplateValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TemplateValueVisitor)
    }
}

struct TemplateValueVisitor;

impl<'de> Visitor<'de> for TemplateValueVisitor {
    type Value = TemplateValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TemplateValue, E> {
        Template::parse(text).map(TemplateValue::Text).map_err(ExprError::into_serde)
    }

    fn visit_bool<E>(self, value: bool) -> Result<TemplateValue, E> {
        Ok(TemplateValue::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<TemplateValue, E> {
        Ok(TemplateValue::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<TemplateValue, E> {
        Ok(TemplateValue::Plain(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<TemplateValue, E> {
        let number = serde_json::Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(TemplateValue::Plain(Json::Number(number)))
    }

    fn visit_unit<E>(self) -> Result<TemplateValue, E> {
        Ok(TemplateValue::Plain(Json::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<TemplateValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(TemplateValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<TemplateValue, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = table.next_entry()? {
            entries.insert(key, value);
        }
        Ok(TemplateValue::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope() -> Scope {
        let mut scope = Scope::new();
        scope.set("prop", json!({"n": 3, "flags": ["-a", "-b"], "none": null, "name": "x y"})).unwrap();
        scope
    }

    #[test]
    fn one_whole_expression_keeps_its_type() {
        let value = |text: &str| Template::parse(text).unwrap().render(&scope()).unwrap();
        assert_eq!(value("${{ prop.n }}"), json!(3));
        assert_eq!(value("${{ prop.flags }}"), json!(["-a", "-b"]));
        assert_eq!(value("n=${{ prop.n }}, ${{ prop.none }}"), json!("n=3, "));
        assert_eq!(value("plain"), json!("plain"));
        assert_eq!(value("$${{ kept }}"), json!("${{ kept }}"));
        assert_eq!(value("${{ {'a': {'b': '}}'}} }}"), json!({"a": {"b": "}}"}}));
        assert_eq!(value(r#"${{ r'\' + "\"}}" }}"#), json!(r#"\"}}"#));
    }

    #[test]
    fn faults_have_their_place_in_the_whole_string() {
        let text = "ä ${{ prop.n }} ${{ pro.n }}";
        let error = Template::parse(text).unwrap_err();
        assert_eq!((error.message.as_str(), &text[error.span]), ("unknown name `pro`", "pro"));
        let text = "a ${{ prop.n }";
        let error = Template::parse(text).unwrap_err();
        assert_eq!((error.message.as_str(), &text[error.span]), ("`${{` without its `}}`", "${{"));
    }

    #[test]
    fn lists_splice_and_null_drops() {
        let value: TemplateValue = serde_json::from_value(
            json!(["a", "${{ prop.flags }}", "${{ prop.none }}", {"k": "${{ prop.n }}"}]),
        )
        .unwrap();
        assert_eq!(value.render(&scope()).unwrap(), json!(["a", "-a", "-b", {"k": 3}]));
    }
}
