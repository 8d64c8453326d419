//! A server with 500 builders and 1,000 builds in memory, to measure and look at the edge alone:
//! `cargo run --release -p greenroom-www --example farm`, then e.g. `wrk -c16 -t1 -d5 -H 'Accept: application/json'
//! http://127.0.0.1:8011/api/v2/builders`. With an argument it also writes so many events a second.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenroom_config::load_text;
use greenroom_data::{DataLayer, DataOptions, Rw};
use greenroom_model::write::*;
use greenroom_model::*;
use greenroom_runtime::Runtime;
use greenroom_www::{Www, WwwParts, serve};

type Failure = Box<dyn std::error::Error>;

const CONFIG: &str = "[master]\nname = \"farm\"\n[workers.w1]\npassword = \"not-a-secret\"\n";
const BUILDERS: i64 = 500;
const BUILDS: i64 = 1_000;

#[actix_rt::main]
async fn main() -> Result<(), Failure> {
    let events: u64 = std::env::args().nth(1).map_or(Ok(0), |it| it.parse())?;
    let runtime = Runtime::builder().build();
    let options = DataOptions {
        database_url: "memory:".into(),
        data_dir: std::env::temp_dir(),
        bus: None,
        master_name: "farm".into(),
    };
    let layer = DataLayer::start(&runtime.root(), options).await?;
    seed(&layer.rw()).await?;
    let listener = std::net::TcpListener::bind("127.0.0.1:8011")?;
    let settings = load_text(CONFIG, Path::new("/")).map_err(|faults| faults.render(false))?.settings;
    let www = Www::new(WwwParts {
        metrics: Default::default(),
        counters: Default::default(),
        ro: layer.ro(),
        control: layer.control(),
        runtime: runtime.clone(),
        settings: Arc::new(settings),
        configuration: greenroom_www::ConfigurationState::default(),
        versions: Vec::new(),
        port: 8011,
    });
    let (_serving, server) = serve(listener, www, None, 2, Duration::from_secs(1))?;
    if events > 0 {
        actix_rt::spawn(write_on(layer.rw(), events));
    }
    tokio::select! {
        ended = server => ended?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    layer.stop(Duration::from_secs(1)).await;
    Ok(())
}

async fn seed(rw: &Rw) -> Result<(), Failure> {
    let builder = |i: i64| ConfiguredBuilder {
        name: format!("builder-{i}"),
        workers: vec!["w1".into()],
        tags: vec!["linux".into()],
        ..ConfiguredBuilder::default()
    };
    let configuration = Configuration {
        builders: (1..=BUILDERS).map(builder).collect(),
        workers: vec!["w1".into()],
        ..Configuration::default()
    };
    rw.write(vec![Op::Configure(Box::new(configuration))]).await?;
    for id in 1..=BUILDS {
        let builder = BuilderId(id % BUILDERS + 1);
        let mut ops = vec![
            Op::AddBuildset(Box::new(NewBuildset {
                id: BuildsetId(id),
                requests: vec![(BuildRequestId(id), builder)],
                sourcestamps: vec![StampRef::New(NewSourceStamp::default())],
                reason: "seed".into(),
                external_id: None,
                properties: Properties::new(),
                priority: 0,
                waited_for: false,
                scheduler: None,
                parent: None,
                rebuilt_build: None,
            })),
            Op::StartBuild(Box::new(NewBuild {
                id: BuildId(id),
                request: BuildRequestId(id),
                worker: WorkerId(1),
                state_string: "starting".into(),
                properties: Properties::new(),
            })),
        ];
        if id < BUILDS {
            ops.push(Op::FinishBuild {
                build: BuildId(id),
                results: Results::Success,
                state_string: "build successful".into(),
            });
        }
        rw.write(ops).await?;
    }
    Ok(())
}

/// Changes the running build so many times a second.
async fn write_on(rw: Rw, events: u64) {
    let mut every = tokio::time::interval(Duration::from_micros(1_000_000 / events));
    for i in 0_u64.. {
        every.tick().await;
        let op = Op::DescribeBuild { build: BuildId(BUILDS), state_string: format!("at {i}") };
        if let Err(error) = rw.write(vec![op]).await {
            tracing::warn!(error = %error, "failed to write on");
        }
    }
}
