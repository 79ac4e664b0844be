//! Compares the proxy with plain byte forwarding, end to end and in one run.
//!
//! ```text
//! cargo bench --bench end_to_end [-- [MEASURE…] [--quick] [--zstd] [--json FILE]]
//! ```
//!
//! MEASURE is any of `first chunks slow whole sizes histories start`; default: all. A fast backend, a plain forwarder
//! and the daemon run as separate processes; this process is the client. With `--zstd`, the backend compresses its
//! responses to the daemon, but not those to the forwarder, which doesn't accept compression. Every delta of every
//! response is checked. The benchmark reads `/proc`, so it requires Linux. It uses only loopback connections.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a separate program that prints its figures and serves in spawned tasks"
)]

mod forward;
mod load;
mod measures;
mod process;
mod report;
mod subject;
mod upstream;
mod wire;

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use measures::Effort;
use report::Report;
use subject::Field;
use tokio::net::TcpListener;
use upstream::Compression;
use wire::wrong;

const FULL: Effort = Effort {
    exchanges: 2_000,
    chunks: 1_600_000,
    slow_streams: &[1_000, 5_000],
    sizes: &[1 << 10, 64 << 10, 1 << 20, 10 << 20, 32 << 20],
    starts: 11,
};
const QUICK: Effort =
    Effort { exchanges: 200, chunks: 160_000, slow_streams: &[200], sizes: &[1 << 10, 1 << 20, 10 << 20], starts: 3 };
const MEASURES: [&str; 7] = ["first", "chunks", "slow", "whole", "sizes", "histories", "start"];

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["role", "upstream"] => upstream::serve(announced().await?, Compression::None).await,
        ["role", "zstd-upstream"] => upstream::serve(announced().await?, Compression::Zstd).await,
        ["role", "forwarder", upstream] => {
            let upstream = upstream.parse().map_err(|_| wrong("no address"))?;
            forward::serve(announced().await?, upstream).await
        }
        _ => run(&arguments).await,
    }
}

/// Binds a listener and prints its address for the parent process.
async fn announced() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}

async fn run(arguments: &[String]) -> io::Result<()> {
    let mut arguments = arguments.iter().map(String::as_str).filter(|&argument| argument != "--bench");
    let (mut chosen, mut effort, mut compression, mut json) = (Vec::new(), FULL, Compression::None, None);
    while let Some(argument) = arguments.next() {
        match argument {
            "--quick" => effort = QUICK,
            "--zstd" => compression = Compression::Zstd,
            "--json" => json = arguments.next().map(PathBuf::from),
            name if MEASURES.contains(&name) => chosen.push(name),
            other => return Err(wrong(format!("'{other}' is none of {MEASURES:?}, --quick, --zstd, --json FILE"))),
        }
    }
    let chosen = if chosen.is_empty() { MEASURES.to_vec() } else { chosen };
    process::build()?;
    let mut report = Report::default();
    for name in chosen {
        // Each measure uses fresh processes, so that earlier measures don't affect it.
        let field = Field::start(compression)?;
        if let Err(error) = measure(name, &field, effort, &mut report).await {
            report.skipped(name, &error);
        }
    }
    json.map_or(Ok(()), |path| report.write(&path))
}

async fn measure(name: &str, field: &Field, effort: Effort, report: &mut Report) -> io::Result<()> {
    match name {
        "first" => measures::first(field, effort, report).await,
        "chunks" => measures::chunks(field, effort, report).await,
        "slow" => measures::slow_streams(field, effort, report).await,
        "whole" => measures::whole(field, effort, report).await,
        "sizes" => measures::sizes(field, effort, report).await,
        "histories" => measures::histories(field, effort, report).await,
        _ => measures::start(field, effort, report).await,
    }
}
