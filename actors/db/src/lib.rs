//! Storage: DbWriter, DbReader and LogWriter actors over one schema and several engines.
