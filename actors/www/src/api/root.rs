//! The list of root collections and the description of every endpoint.

use greenroom_model::Resource;
use greenroom_model::query::{Field, FieldType};
use serde_json::{Value, json};

use super::{FAMILIES, type_of};
use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Call, Route, route};
use crate::rows::{self, NAME_ONLY};

pub(super) const ROUTES: &[Route] =
    &[route!("", "rootlinks", c => rootlinks(&c)), route!("application.spec", "specs", c => specs(&c))];

const SPEC_FIELDS: &[Field] =
    rows::row_fields!["path": Text, "type": Text, "plural": Text, "type_spec": Nested];

/// One table out of several, for families whose patterns are made by macros.
pub(super) const fn join<const N: usize>(parts: &[&[Route]]) -> [Route; N] {
    let mut out = [parts[0][0]; N];
    let (mut filled, mut part) = (0, 0);
    while part < parts.len() {
        let mut i = 0;
        while i < parts[part].len() {
            out[filled] = parts[part][i];
            filled += 1;
            i += 1;
        }
        part += 1;
    }
    assert!(filled == N, "the table's length is not the sum of its parts");
    out
}

async fn rootlinks(call: &Call) -> Result<Answer, ApiError> {
    let patterns = FAMILIES.iter().flat_map(|it| it.iter()).map(|route| route.pattern);
    let names = patterns.filter(|it| !it.is_empty() && !it.contains(['/', '.']));
    let rows = names.map(|name| json!({ "name": name })).collect();
    collection::plain(call, "rootlinks", NAME_ONLY, rows)
}

async fn specs(call: &Call) -> Result<Answer, ApiError> {
    let mut routes: Vec<_> = FAMILIES.iter().flat_map(|it| it.iter()).collect();
    routes.sort_by_key(|route| route.pattern);
    let spec = |route: &&Route| {
        let kind = type_of(route.plural);
        json!({
            "path": route.pattern,
            "plural": route.plural,
            "type": kind,
            "type_spec": type_spec(route.plural, kind),
        })
    };
    collection::plain(call, "specs", SPEC_FIELDS, routes.iter().map(spec).collect())
}

/// The fields of a type: those of an entity by the model, none for the others.
fn type_spec(plural: &str, kind: &str) -> Value {
    let resource = Resource::ALL.into_iter().find(|it| it.plural() == plural);
    let fields: Vec<_> = resource.map_or(NAME_ONLY, Resource::fields).iter().map(field_spec).collect();
    json!({ "type": kind, "fields": fields })
}

fn field_spec(field: &Field) -> Value {
    let name = match field.ty {
        FieldType::Int => "integer",
        FieldType::Text => "string",
        FieldType::Bool => "boolean",
        FieldType::Time => "datetime",
        FieldType::Nested => "jsonobject",
    };
    json!({ "name": field.name, "type": name, "type_spec": { "name": name } })
}
