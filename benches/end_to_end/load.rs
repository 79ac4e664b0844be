//! The load: concurrent connections, with every exchange checked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::subject::{Field, Order, Subject};
use crate::upstream::unix_nanos;
use crate::wire::Connection;

/// Time from a request to its first delta, in nanoseconds, for exchanges one after another on one connection.
pub(crate) async fn first_content(
    field: &Field,
    subject: Subject,
    order: &Order,
    times: usize,
) -> io::Result<Vec<u64>> {
    let request = subject.request(order);
    let mut connection = Connection::open(field.address(subject)).await?;
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let mut check = subject.check(order);
        let begun = unix_nanos();
        connection.exchange(&request, &mut check).await?;
        taken.push(check.first_at.unwrap_or(begun).saturating_sub(begun));
    }
    Ok(taken)
}

/// The results of a burst.
pub(crate) struct Burst {
    pub(crate) seconds: f64,
    /// Of the measured process.
    pub(crate) cpu_seconds: f64,
}

/// Runs `streams` connections concurrently, each sending the order `rounds` times.
pub(crate) async fn burst(
    field: &Field,
    subject: Subject,
    order: &Order,
    streams: usize,
    rounds: usize,
) -> io::Result<Burst> {
    let request: Arc<[u8]> = subject.request(order).into();
    let address = field.address(subject);
    let cpu = field.process(subject).cpu_seconds()?;
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..streams {
        running.spawn(repeat(address, Arc::clone(&request), subject, order.clone(), rounds));
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Burst { seconds, cpu_seconds: field.process(subject).cpu_seconds()? - cpu })
}

async fn repeat(
    address: SocketAddr,
    request: Arc<[u8]>,
    subject: Subject,
    order: Order,
    rounds: usize,
) -> io::Result<()> {
    let mut connection = Connection::open(address).await?;
    let mut check = subject.check(&order);
    for _ in 0..rounds {
        connection.exchange(&request, &mut check).await?;
    }
    Ok(())
}

/// The cost of open slow streams.
pub(crate) struct Slow {
    /// Transit times of deltas in nanoseconds.
    pub(crate) ages: Vec<u64>,
    pub(crate) bytes_each: f64,
}

/// Opens `streams` slow streams a few at a time, and reads the memory when all are running.
pub(crate) async fn slow(field: &Field, subject: Subject, order: &Order, streams: usize) -> io::Result<Slow> {
    let process = field.process(subject);
    let (request, address): (Arc<[u8]>, _) = (subject.request(order).into(), field.address(subject));
    let before = process.resident_bytes()?;
    let mut running = JoinSet::new();
    for started in 0..streams {
        let (request, order) = (Arc::clone(&request), order.clone());
        running.spawn(async move {
            let mut check = subject.check(&order);
            let mut connection = Connection::open(address).await?;
            connection.exchange(&request, &mut check).await?;
            io::Result::Ok(check.ages)
        });
        if started % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(order.pause_milliseconds * order.count / 3)).await;
    let after = process.resident_bytes()?;
    let mut ages = Vec::new();
    while let Some(ended) = running.join_next().await {
        // The first deltas are skipped: their latency includes the opening of connections.
        ages.extend(ended.map_err(io::Error::other)??.into_iter().skip(usize::try_from(order.count / 2).unwrap_or(0)));
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    Ok(Slow { ages, bytes_each: (after - before) / streams as f64 })
}

/// Returns a quantile of the values.
pub(crate) fn quantile(values: &mut [u64], share: f64) -> f64 {
    values.sort_unstable();
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    let at = ((values.len().saturating_sub(1)) as f64 * share).round() as usize;
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one exchange")]
    values.get(at).map_or(f64::NAN, |&value| value as f64)
}
