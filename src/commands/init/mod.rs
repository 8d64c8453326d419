//! `greenroom init`: a configuration that fits a git repository.

mod make;
mod node;
mod project;
mod python;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use project::Project;

/// Where to look, and what to write.
#[derive(Args)]
pub struct Options {
    /// A directory in the repository.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// What to write; `greenroom.toml` at the top of the repository when left out, `-` for standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Build what this remote has, such as `origin`, instead of this clone.
    #[arg(long, value_name = "NAME")]
    remote: Option<String>,
    /// Where the master keeps its data; a directory outside of the repository when left out.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Overwrite a file that is there.
    #[arg(long, short)]
    force: bool,
}

/// Looks, writes, checks what it wrote, and says what to do next.
pub fn run(options: Options) -> Result<ExitCode> {
    let project = Project::find(&options.dir, options.remote.as_deref())?;
    let data_dir = match options.data_dir {
        Some(dir) => std::path::absolute(&dir).context("failed to find the data directory")?,
        None => default_data_dir(&project.name),
    };
    let config = text::write(&project, &data_dir)?;
    if let Err(faults) = greenroom_config::load_text(&config, &project.top) {
        bail!(
            "a fault of the program: what was written is not good, please report it\n{}",
            faults.render(false)
        );
    }
    let output = options.output.unwrap_or_else(|| project.top.join("greenroom.toml"));
    if output == Path::new("-") {
        std::io::stdout().write_all(config.as_bytes()).context("failed to print")?;
        return Ok(ExitCode::SUCCESS);
    }
    save(&output, &config, options.force)?;
    say(&project, &output);
    Ok(ExitCode::SUCCESS)
}

fn save(output: &Path, config: &str, force: bool) -> Result<()> {
    let mut how = std::fs::OpenOptions::new();
    how.write(true);
    let how = if force { how.create(true).truncate(true) } else { how.create_new(true) };
    let mut file = match how.open(output) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} is there already: --force overwrites it, --output writes elsewhere", output.display())
        }
        other => other.with_context(|| format!("failed to write {}", output.display()))?,
    };
    file.write_all(config.as_bytes()).with_context(|| format!("failed to write {}", output.display()))
}

/// What was found, and the next commands.
fn say(project: &Project, output: &Path) {
    let found: Vec<&str> = project.recipes.iter().map(|it| it.found).filter(|it| !it.is_empty()).collect();
    match found.as_slice() {
        [] => println!("found nothing that I know how to build: say it in the steps of [builders.hello]"),
        found => println!("found {}", found.join(", ")),
    }
    for file in &project.uncommitted {
        println!("note: {file} is not committed; a build only sees what is");
    }
    println!("wrote {}", output.display());
    let here = std::env::current_dir().is_ok_and(|it| it.join("greenroom.toml") == output);
    let config = if here { String::new() } else { format!(" --config {}", shell_word(output)) };
    let builder = project.recipes.first().map_or("hello", |it| it.builder);
    println!("\nnext:");
    println!("  greenroom check{config}");
    println!("  greenroom master{config}     and open http://127.0.0.1:8010/");
    println!("  greenroom force {builder}     in another shell: the first build; every commit makes more");
}

fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |it: char| it.is_ascii_alphanumeric() || "/._-+".contains(it);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Outside of the repository, so that neither its tools nor its builds see it: below the user's directory for state.
fn default_data_dir(name: &str) -> PathBuf {
    let absolute =
        |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|it| it.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|it| it.join(".local/state")));
    let Some(state) = state else { return PathBuf::from("greenroom-data") };
    let state = state.join("greenroom");
    let numbered = (2..100).map(|number| state.join(format!("{name}-{number}")));
    std::iter::once(state.join(name))
        .chain(numbered)
        .find(|it| !it.exists())
        .unwrap_or_else(|| state.join(name))
}
