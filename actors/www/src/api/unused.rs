//! Collections of the contract of which there are none here yet: stock clients ask for them and get an empty list.

use greenroom_model::query::Field;

use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Call, Route, route};
use crate::rows;

pub(super) const ROUTES: &[Route] = &[
    route!("codebases", "codebases", c => none(&c, "codebases", CODEBASES)),
    route!("test_result_sets", "test_result_sets", c => none(&c, "test_result_sets", TEST_RESULT_SETS)),
    route!("builds/n:buildid/test_result_sets", "test_result_sets",
        c => none(&c, "test_result_sets", TEST_RESULT_SETS)),
    route!("steps/n:stepid/test_result_sets", "test_result_sets",
        c => none(&c, "test_result_sets", TEST_RESULT_SETS)),
    route!("builds/n:buildid/data", "build_data", c => none(&c, "build_data", BUILD_DATA)),
];

const CODEBASES: &[Field] =
    rows::row_fields!["codebaseid": Int, "projectid": Int, "name": Text, "slug": Text];
const TEST_RESULT_SETS: &[Field] = rows::row_fields![
    "test_result_setid": Int, "builderid": Int, "buildid": Int, "stepid": Int, "description": Text,
    "category": Text, "value_unit": Text, "tests_passed": Int, "tests_failed": Int, "complete": Bool,
];
const BUILD_DATA: &[Field] =
    rows::row_fields!["buildid": Int, "name": Text, "length": Int, "source": Text, "value": Text];

async fn none(call: &Call, plural: &'static str, fields: &'static [Field]) -> Result<Answer, ApiError> {
    collection::plain(call, plural, fields, Vec::new())
}
