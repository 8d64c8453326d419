//! `greenroom config history`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use greenroom_config::Difference;
use serde_json::Value;

use super::MasterPage;
use crate::http;

/// How much of it.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    master: MasterPage,
    /// At most so many versions.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// With everything that differs, not only how much.
    #[arg(long)]
    full: bool,
}

/// Prints them.
pub fn run(options: &Options) -> Result<ExitCode> {
    let path = format!(
        "api/v2/masters/{}/configurations?order=-number&limit={}",
        options.master.id()?,
        options.limit
    );
    let found =
        http::get_json(&options.master.under(&path)?)?.context("this master knows no configurations")?;
    let versions = found["configurations"].as_array().cloned().unwrap_or_default();
    for version in &versions {
        println!("{}", line(version));
        if options.full
            && let Some(difference) = difference(version)
        {
            difference.to_string().lines().for_each(|line| println!("        {line}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn difference(version: &Value) -> Option<Difference> {
    serde_json::from_value(version["difference"].clone()).ok()
}

fn line(version: &Value) -> String {
    let number = version["number"].as_i64().unwrap_or_default();
    let at = version["created_at"].as_i64().and_then(|at| jiff::Timestamp::from_second(at).ok());
    let at = at.map(|at| at.to_string()).unwrap_or_default();
    let cause = match version["restores"].as_i64() {
        Some(restored) => format!("rollback to {restored}"),
        None => version["cause"].as_str().unwrap_or_default().to_owned(),
    };
    let who = version["who"].as_str().unwrap_or_default();
    let what = match difference(version) {
        Some(difference) if number > 1 => difference.summary(),
        Some(_) => "the first".to_owned(),
        None if number > 1 => "not known what differs".to_owned(),
        None => "the first".to_owned(),
    };
    format!("{number:>4}  {at}  {cause:<16}  {who:<12}  {what}")
}
