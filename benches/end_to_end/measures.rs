//! The measures: one function per table of figures.

use std::io;

use crate::load::{burst, first_content, quantile, slow};
use crate::process::{Process, binary_bytes};
use crate::report::{Report, Target};
use crate::subject::{Field, Form, Order, Subject};

const MILLION: f64 = 1e6;
const OURS: [Subject; 3] = [Subject::Chat, Subject::Responses, Subject::Messages];

/// The amount of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) exchanges: usize,
    /// Chunks of one burst, over all of its streams.
    pub(crate) chunks: u64,
    pub(crate) slow_streams: &'static [usize],
    pub(crate) sizes: &'static [usize],
    pub(crate) starts: usize,
}

/// Time to the first content, one exchange at a time. The subjects alternate, so that a temporarily slow
/// machine affects all of them.
pub(crate) async fn first(field: &Field, effort: Effort, report: &mut Report) -> io::Result<()> {
    const TURNS: usize = 20;
    const WARMUP: usize = 3;
    let order = Order::stream(1);
    let mut taken: Vec<(Subject, Vec<u64>)> = Subject::ALL.map(|subject| (subject, Vec::new())).into();
    for turn in 0..=TURNS {
        for (subject, taken) in &mut taken {
            let times = first_content(field, *subject, &order, effort.exchanges / TURNS + WARMUP).await?;
            // The first round warms up the processes.
            taken.extend(times.into_iter().skip(WARMUP).filter(|_| turn > 0));
        }
    }
    let mut quantiles = |share: f64| -> Vec<(Subject, f64)> {
        taken.iter_mut().map(|(subject, taken)| (*subject, quantile(taken, share) / MILLION)).collect()
    };
    let (middle, tail) = (quantiles(0.5), quantiles(0.99));
    report.compared("time to first content, p50", "ms", &middle, |_| Some(Target::AtMost(1.5)));
    report.compared("time to first content, p99", "ms", &tail, |_| Some(Target::AtMost(2.0)));
    Ok(())
}

/// Chunks per second, and the cost of a million chunks.
pub(crate) async fn chunks(field: &Field, effort: Effort, report: &mut Report) -> io::Result<()> {
    for streams in [1, 16, 32, 256] {
        let count = effort.chunks / streams as u64;
        let (mut speed, mut cost) = (Vec::new(), Vec::new());
        for subject in Subject::ALL {
            burst(field, subject, &Order::stream(count.min(1000)), streams, 1).await?;
            let burst = burst(field, subject, &Order::stream(count), streams, 1).await?;
            #[expect(clippy::cast_precision_loss, reason = "millions")]
            let sent = (count * streams as u64) as f64;
            speed.push((subject, sent / burst.seconds));
            cost.push((subject, burst.cpu_seconds / sent * MILLION));
        }
        let speed_target = |subject| match subject {
            Subject::Chat if streams == 16 => Some(Target::AtLeast(0.75)),
            Subject::Responses if streams == 16 => Some(Target::AtLeast(0.9)),
            _ => None,
        };
        report.compared(&format!("chunks a second, {streams} streams"), "1/s", &speed, speed_target);
        let cost_target = |subject| (subject == Subject::Chat).then_some(Target::AtMost(1.5));
        report.compared(&format!("CPU a million chunks, {streams} streams"), "s", &cost, cost_target);
    }
    Ok(())
}

/// Many streams with infrequent events.
pub(crate) async fn slow_streams(field: &Field, effort: Effort, report: &mut Report) -> io::Result<()> {
    let order = Order { pause_milliseconds: 500, ..Order::stream(24) };
    for &streams in effort.slow_streams {
        let (mut memory, mut middle, mut tail) = (Vec::new(), Vec::new(), Vec::new());
        for subject in [Subject::Direct, Subject::Forwarder, Subject::Chat] {
            let mut slow = slow(field, subject, &order, streams).await?;
            middle.push((subject, quantile(&mut slow.ages, 0.5) / MILLION));
            tail.push((subject, quantile(&mut slow.ages, 0.99) / MILLION));
            if subject != Subject::Direct {
                memory.push((subject, slow.bytes_each / 1024.0));
            }
        }
        let target = |_| (streams == 1000).then_some(Target::AtMost(1.5));
        report.compared(&format!("memory a stream, {streams} slow"), "KiB", &memory, target);
        report.compared(&format!("age of a chunk, {streams} slow, p50"), "ms", &middle, |_| None);
        report.compared(&format!("age of a chunk, {streams} slow, p99"), "ms", &tail, |_| None);
    }
    Ok(())
}

/// Documents. The forwarder has no documents: it forwards the stream of the same response.
pub(crate) async fn whole(field: &Field, effort: Effort, report: &mut Report) -> io::Result<()> {
    let mut speed = Vec::new();
    for subject in Subject::ALL {
        let form = if OURS.contains(&subject) { Form::Document } else { Form::Stream };
        let order = Order { form, ..Order::stream(20) };
        let (streams, rounds) = (16, effort.exchanges / 2);
        burst(field, subject, &order, streams, rounds / 10).await?;
        let burst = burst(field, subject, &order, streams, rounds).await?;
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        speed.push((subject, (streams * rounds) as f64 / burst.seconds));
    }
    report.compared("whole answers a second, 16 clients", "1/s", &speed, |_| Some(Target::AtLeast(0.5)));
    Ok(())
}

/// Cost by request size.
pub(crate) async fn sizes(field: &Field, effort: Effort, report: &mut Report) -> io::Result<()> {
    for &bytes in effort.sizes {
        let text = "All work and no \"play\" makes a dull day.\n";
        let order = Order { turns: vec![text.repeat(bytes / text.len() + 1)], ..Order::stream(1) };
        let (mut taken, mut memory) = (Vec::new(), Vec::new());
        for subject in Subject::ALL {
            first_content(field, subject, &order, 2).await?;
            let process = field.process(subject);
            let before = process.resident_bytes()?;
            process.forget_peak()?;
            let mut times = first_content(field, subject, &order, 9).await?;
            taken.push((subject, quantile(&mut times, 0.5) / MILLION));
            if subject != Subject::Direct {
                #[expect(clippy::cast_precision_loss, reason = "megabytes")]
                memory.push((subject, (process.peak_bytes()? - before).max(0.0) / bytes as f64));
            }
        }
        let is_large = bytes == 10 << 20;
        let size = if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) };
        let target = |_| is_large.then_some(Target::AtMost(5.0));
        report.compared(&format!("first content, body of {size}"), "ms", &taken, target);
        for &(subject, bodies) in &memory {
            let target = is_large.then_some(Target::AtMost(4.0));
            report.plain(&format!("memory, body of {size}, {}", subject.name()), bodies, "bodies", target);
        }
    }
    Ok(())
}

/// Cost by history length.
pub(crate) async fn histories(field: &Field, _effort: Effort, report: &mut Report) -> io::Result<()> {
    for turns in [10, 100, 1_000, 10_000] {
        let order = Order { turns: vec!["So it goes on.".to_owned(); turns | 1], ..Order::stream(1) };
        let mut taken = Vec::new();
        for subject in Subject::ALL {
            first_content(field, subject, &order, 2).await?;
            let mut times = first_content(field, subject, &order, 9).await?;
            taken.push((subject, quantile(&mut times, 0.5) / MILLION));
        }
        report.compared(&format!("first content, {turns} turns"), "ms", &taken, |_| None);
    }
    Ok(())
}

/// An idle daemon.
pub(crate) async fn start(_field: &Field, effort: Effort, report: &mut Report) -> io::Result<()> {
    let mut taken = Vec::new();
    let mut last = None;
    for _ in 0..effort.starts {
        drop(last.take());
        let (process, time) = Process::cold_start().await?;
        taken.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        last = Some(process);
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let idle = last.map_or(Ok(f64::NAN), |process| process.resident_bytes())?;
    report.plain("cold start to /health, p50", quantile(&mut taken, 0.5) / MILLION, "ms", Some(Target::AtMost(20.0)));
    report.plain("idle memory", idle / f64::from(1 << 20), "MiB", Some(Target::AtMost(20.0)));
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    report.plain("binary", binary_bytes()? as f64 / f64::from(1 << 20), "MiB", None);
    Ok(())
}
