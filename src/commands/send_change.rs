//! `greenroom send-change`: a change by hand, as a hook would send it.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::http;

/// The change.
#[derive(Args)]
pub struct Options {
    /// The master's page.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8010/")]
    master: String,
    /// Where the source comes from.
    #[arg(long, default_value = "")]
    repository: String,
    /// Which branch.
    #[arg(long)]
    branch: Option<String>,
    /// Which revision.
    #[arg(long)]
    revision: Option<String>,
    /// Who wrote it.
    #[arg(long, default_value = "unknown")]
    author: String,
    /// The message.
    #[arg(long, short = 'm', default_value = "")]
    comments: String,
    /// Which codebase.
    #[arg(long, default_value = "")]
    codebase: String,
    /// Which project.
    #[arg(long, default_value = "")]
    project: String,
    /// A free category.
    #[arg(long)]
    category: Option<String>,
    /// A property for its builds: NAME=VALUE.
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
    /// The files it touches.
    files: Vec<String>,
}

/// Sends it and prints what the master says.
pub fn run(options: Options) -> Result<ExitCode> {
    let mut properties = serde_json::Map::new();
    for property in &options.properties {
        let Some((name, value)) = property.split_once('=') else {
            bail!("--property {property}: write NAME=VALUE")
        };
        properties.insert(name.to_owned(), value.into());
    }
    let files = serde_json::to_string(&options.files).context("failed to write the list of files")?;
    let properties = serde_json::Value::Object(properties).to_string();
    let optional =
        [("branch", options.branch), ("revision", options.revision), ("category", options.category)];
    let mut form: Vec<(&str, String)> = vec![
        ("repository", options.repository),
        ("author", options.author),
        ("comments", options.comments),
        ("codebase", options.codebase),
        ("project", options.project),
        ("files", files),
        ("properties", properties),
    ];
    form.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    println!("{}", http::post_form(&http::under(&options.master, "change_hook/base")?, &form)?.trim());
    Ok(ExitCode::SUCCESS)
}
