//! JSON as MessagePack and back, by another implementation than the one under test.

use bytes::Bytes;
use serde_json::{Map, Value as Json};

/// JSON in which `{"$bin": "..."}` stands for binary data.
pub fn pack(json: &Json) -> Bytes {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, &to_rmpv(json)).unwrap();
    Bytes::from(out)
}

fn to_rmpv(json: &Json) -> rmpv::Value {
    match json {
        Json::Null => rmpv::Value::Nil,
        Json::Bool(value) => rmpv::Value::from(*value),
        Json::Number(number) => match number.as_i64() {
            Some(int) => rmpv::Value::from(int),
            None => rmpv::Value::from(number.as_f64().unwrap()),
        },
        Json::String(text) => rmpv::Value::from(text.as_str()),
        Json::Array(list) => rmpv::Value::Array(list.iter().map(to_rmpv).collect()),
        Json::Object(map) => match map.get("$bin") {
            Some(block) => rmpv::Value::Binary(block.as_str().unwrap().as_bytes().to_vec()),
            None => rmpv::Value::Map(
                map.iter().map(|(k, v)| (rmpv::Value::from(k.as_str()), to_rmpv(v))).collect(),
            ),
        },
    }
}

/// The opposite of [`pack`]; fails on anything but one whole value.
pub fn unpack(bytes: &[u8]) -> Json {
    let mut rest = bytes;
    let value = rmpv::decode::read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "bytes after the value");
    to_json(&value)
}

fn to_json(value: &rmpv::Value) -> Json {
    match value {
        rmpv::Value::Nil => Json::Null,
        rmpv::Value::Boolean(value) => Json::from(*value),
        rmpv::Value::Integer(int) => int.as_i64().map(Json::from).unwrap_or_else(|| Json::from(int.as_u64())),
        rmpv::Value::F32(float) => Json::from(*float),
        rmpv::Value::F64(float) => Json::from(*float),
        rmpv::Value::String(text) => Json::from(text.as_str().expect("text is UTF-8")),
        rmpv::Value::Binary(block) => {
            Json::Object(Map::from_iter([("$bin".to_owned(), Json::from(String::from_utf8_lossy(block)))]))
        }
        rmpv::Value::Array(list) => Json::Array(list.iter().map(to_json).collect()),
        rmpv::Value::Map(entries) => {
            Json::Object(entries.iter().map(|(k, v)| (k.as_str().unwrap().to_owned(), to_json(v))).collect())
        }
        rmpv::Value::Ext(..) => panic!("extensions are never sent"),
    }
}
