//! Query parameters: what a client may ask of a collection, by the names of the contract.

use greenroom_model::query::{Compare, Field, FieldType};
use greenroom_model::{FieldValue, Filter, Properties, Query, Timestamp};

use crate::error::ApiError;

/// The parameters of a URL, decoded, in order.
pub(crate) type Params = Vec<(String, String)>;

/// Which properties a client wants to see of each entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// None: the parameter was not given.
    None,
    /// These.
    Named(Vec<String>),
    /// Every one.
    All,
}

impl Wanted {
    /// The wanted ones of `properties`.
    pub(crate) fn pick(&self, properties: &Properties) -> Properties {
        match self {
            Wanted::None => Properties::new(),
            Wanted::All => properties.clone(),
            Wanted::Named(names) => names
                .iter()
                .filter_map(|name| properties.get_key_value(name))
                .map(|(name, property)| (name.clone(), property.clone()))
                .collect(),
        }
    }
}

/// What a client asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    /// Only these fields, if any were named.
    pub(crate) fields: Option<Vec<&'static str>>,
    /// These properties.
    pub(crate) properties: Wanted,
    /// What `expand=` names, as it was given.
    pub(crate) expand: Vec<String>,
    /// Filters, order, limit and offset.
    pub(crate) query: Query,
}

/// Reads the parameters of a URL's query.
pub(crate) fn params(query: &str) -> Params {
    serde_urlencoded::from_str(query).unwrap_or_default()
}

impl Spec {
    /// What is asked of a collection with these fields.
    pub(crate) fn collection(fields: &'static [Field], params: &Params) -> Result<Self, ApiError> {
        Self::parse(fields, params, true)
    }

    /// What is asked of a single entity with these fields: no filters.
    pub(crate) fn single(fields: &'static [Field], params: &Params) -> Result<Self, ApiError> {
        Self::parse(fields, params, false)
    }

    fn parse(fields: &'static [Field], params: &Params, collection: bool) -> Result<Self, ApiError> {
        let find = |name: &str| fields.iter().find(|f| f.name == name);
        let unknown = |name: &str| bad(format!("no such field '{name}'"));
        let mut spec =
            Spec { fields: None, properties: Wanted::None, expand: Vec::new(), query: Query::default() };
        let mut filters: Vec<(&str, Vec<&str>)> = Vec::new();
        let (mut limit, mut offset) = (None, None);
        for (name, value) in params {
            match name.as_str() {
                "field" => {
                    let field = find(value).ok_or_else(|| unknown(value))?;
                    spec.fields.get_or_insert_default().push(field.name);
                }
                "order" => {
                    let (key, descending) = match value.strip_prefix('-') {
                        Some(key) => (key, true),
                        None => (value.as_str(), false),
                    };
                    let field = find(key).ok_or_else(|| unknown(key))?;
                    spec.query.order.push((field.name, descending));
                }
                "limit" => limit = limit.or(Some(value)),
                "offset" => offset = offset.or(Some(value)),
                "property" => spec.want(value),
                "expand" => spec.expand.push(value.clone()),
                other => match filters.iter_mut().find(|(known, _)| *known == other) {
                    Some((_, values)) => values.push(value),
                    None => filters.push((other, vec![value])),
                },
            }
        }
        spec.query.limit =
            limit.map(|it| number(it, "limit")).transpose()?.and_then(|n| u64::try_from(n).ok());
        let offset = offset.map(|it| number(it, "offset")).transpose()?.unwrap_or(0);
        spec.query.offset = u64::try_from(offset).unwrap_or(0);
        for (name, values) in filters {
            spec.query.filters.extend(filter(fields, name, &values)?);
        }
        spec.check(collection)?;
        Ok(spec)
    }

    fn want(&mut self, name: &str) {
        if name == "*" {
            self.properties = Wanted::All;
        }
        match &mut self.properties {
            Wanted::All => {}
            Wanted::Named(names) => names.push(name.to_owned()),
            Wanted::None => self.properties = Wanted::Named(vec![name.to_owned()]),
        }
    }

    fn check(&self, collection: bool) -> Result<(), ApiError> {
        if !collection && !self.query.filters.is_empty() {
            return Err(not_a_collection());
        }
        let Some(fields) = &self.fields else { return Ok(()) };
        if self.query.filters.iter().any(|f| !fields.contains(&f.field)) {
            return Err(bad("cannot filter on un-selected fields"));
        }
        if self.query.order.iter().any(|(field, _)| !fields.contains(field)) {
            return Err(bad("cannot order on un-selected fields"));
        }
        Ok(())
    }
}

/// The answer to filters on what is no collection.
pub(crate) fn not_a_collection() -> ApiError {
    bad("this is not a collection")
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::BadQuery(message.into())
}

fn number(text: &str, what: &str) -> Result<i64, ApiError> {
    text.trim().parse().map_err(|_| bad(format!("invalid {what}")))
}

/// The filter of a parameter; none for what the contract ignores in silence.
fn filter(fields: &'static [Field], name: &str, values: &[&str]) -> Result<Option<Filter>, ApiError> {
    let (field, op) = match name.split_once("__") {
        Some((field, op)) => (field, Some(op)),
        None => (name, None),
    };
    let Some(field) = fields.iter().find(|f| f.name == field) else {
        return match op {
            Some(_) => Ok(None),
            None => Err(bad(format!("unrecognized query parameter '{name}'"))),
        };
    };
    let compare = match op {
        None | Some("eq" | "in") => Compare::Eq,
        Some("ne" | "notin") => Compare::Ne,
        Some("lt") => Compare::Lt,
        Some("le") => Compare::Le,
        Some("gt") => Compare::Gt,
        Some("ge") => Compare::Ge,
        Some("contains") => Compare::Contains,
        Some(_) => return Ok(None),
    };
    let ordering = matches!(compare, Compare::Lt | Compare::Le | Compare::Gt | Compare::Ge);
    if ordering && values.len() > 1 {
        return Ok(None);
    }
    let mut wanted = Vec::with_capacity(values.len());
    for text in values {
        value(field, text, &mut wanted)?;
    }
    Ok(Some(Filter { field: field.name, compare, values: wanted }))
}

/// Adds what `text` means for a field.
fn value(field: &Field, text: &str, out: &mut Vec<FieldValue>) -> Result<(), ApiError> {
    let invalid = || bad(format!("invalid filter value for {}", field.name));
    let int = || text.trim().parse::<i64>().map_err(|_| invalid());
    match field.ty {
        FieldType::Int => out.push(FieldValue::Int(int()?)),
        FieldType::Time => out.push(FieldValue::Time(Timestamp::from_seconds(int()?))),
        FieldType::Text => out.push(FieldValue::Text(text.to_owned())),
        FieldType::Bool => out.push(FieldValue::Bool(boolean(text).ok_or_else(invalid)?)),
        FieldType::Nested if field.name == "properties" => return Err(invalid()),
        // The type of the elements is the entity's business: either reading may fit.
        FieldType::Nested => {
            out.extend(text.trim().parse::<i64>().ok().map(FieldValue::Int));
            out.push(FieldValue::Text(text.to_owned()));
        }
    }
    Ok(())
}

/// Yes or no, as the contract spells them.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use greenroom_model::Resource;

    use super::*;

    fn builds(query: &str) -> Result<Spec, String> {
        Spec::collection(Resource::Builds.fields(), &params(query)).map_err(|e| e.to_string())
    }

    fn filters(query: &str) -> Vec<Filter> {
        builds(query).unwrap().query.filters
    }

    #[test]
    fn the_queries_of_the_stock_page_are_understood() {
        let spec = builds("order=-buildid&complete=true&limit=20").unwrap();
        assert_eq!(spec.query.order, [("buildid", true)]);
        assert_eq!((spec.query.limit, spec.query.offset), (Some(20), 0));
        assert_eq!(
            spec.query.filters,
            [Filter { field: "complete", compare: Compare::Eq, values: vec![FieldValue::Bool(true)] }]
        );
        let spec = builds("builderid__eq=3&builderid__eq=1&property=branch&property=branch&limit=2").unwrap();
        assert_eq!(spec.query.filters[0].values, [FieldValue::Int(3), FieldValue::Int(1)]);
        assert_eq!(spec.properties, Wanted::Named(vec!["branch".into(), "branch".into()]));
    }

    #[test]
    fn faults_have_the_words_of_the_contract() {
        for (query, wanted) in [
            ("foo=1", "unrecognized query parameter 'foo'"),
            ("field=foo", "no such field 'foo'"),
            ("order=-foo", "no such field 'foo'"),
            ("limit=x", "invalid limit"),
            ("offset=", "invalid offset"),
            ("results=null", "invalid filter value for results"),
            ("complete=maybe", "invalid filter value for complete"),
            ("properties=x", "invalid filter value for properties"),
            ("field=buildid&results=1", "cannot filter on un-selected fields"),
            ("field=buildid&order=number", "cannot order on un-selected fields"),
        ] {
            assert_eq!(builds(query), Err(wanted.to_owned()), "{query}");
        }
        let single = |query: &str| Spec::single(Resource::Builds.fields(), &params(query));
        assert_eq!(single("results=1").unwrap_err().to_string(), "this is not a collection");
        assert!(single("limit=1&order=number&field=number&property=*").is_ok());
    }

    #[test]
    fn what_the_contract_ignores_is_ignored() {
        assert_eq!(filters("foo__eq=1&buildid__like=3&buildid__lt=1&buildid__lt=2"), []);
        assert_eq!(builds("limit=-1").unwrap().query.limit, None);
        assert_eq!(builds("limit=3&limit=x").unwrap().query.limit, Some(3));
        assert_eq!(builds("limit=0").unwrap().query.limit, Some(0));
    }

    #[test]
    fn values_have_the_type_of_their_field() {
        assert_eq!(filters("started_at__ge=7")[0].values, [FieldValue::Time(Timestamp::from_seconds(7))]);
        assert_eq!(filters("state_string__contains=a+b%20c")[0].values, [FieldValue::Text("a b c".into())]);
        assert_eq!(filters("complete=OFF")[0].values, [FieldValue::Bool(false)]);
        assert_eq!(filters("buildid__notin=1&buildid__notin=2")[0].compare, Compare::Ne);
    }
}
