//! Messages between master and worker: MessagePack envelope, typed operations, golden files. No actix.
