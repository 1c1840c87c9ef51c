//! Queues in memory: what handing over a record could cost if nothing had to be kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use crossbeam_queue::ArrayQueue;
use disruptor::{BusySpin, EventPoller, MultiProducerBarrier, SingleProducerBarrier};
use parking_lot::Mutex;
use semj_bench::arguments;
use semj_bench::clock::Clock;
use semj_bench::common::Common;
use semj_bench::latency::Latencies;
use semj_bench::pace::{Plan, Produced, Wait, produce};
use semj_bench::payload::Payloads;
use semj_bench::process;
use semj_bench::queue::{Row, table};
use semj_bench::workload::on_threads;

/// Queues in memory that take 256 bytes, at the same times as events in `semj-bench emission`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Which queues; default: all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Queue>,
    /// Threads that push; rtrb takes one only.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2")]
    producers: Vec<usize>,
    /// Records each second of each producer; 0: one after the other.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000000,0")]
    rate: Vec<f64>,
    /// How long it is measured.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Queue {
    /// Nothing is pushed anywhere.
    None,
    Rtrb,
    Disruptor,
    Crossbeam,
}

const SIZE: usize = 256;
/// As many as a journal's buffer has by default.
const CAPACITY: usize = 32 << 10;

type Record = [u8; SIZE];

#[derive(Clone, Copy, Debug)]
struct Measurement {
    queue: Queue,
    producers: usize,
    rate: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let queues = if args.only.is_empty() { Queue::value_variants() } else { &args.only };
    let mut measurements = Vec::new();
    for &rate in &args.rate {
        for &producers in &args.producers {
            for &queue in queues {
                if producers == 1 || queue != Queue::Rtrb {
                    measurements.push(Measurement { queue, producers, rate });
                }
            }
        }
    }
    let rows = args.common.measure(
        &measurements,
        |measurement| {
            let Measurement { queue, producers, rate } = measurement;
            let seconds = args.seconds;
            let queue = name(*queue);
            arguments![
                "queues",
                "--only",
                queue,
                "--producers",
                producers,
                "--rate",
                rate,
                "--seconds",
                seconds
            ]
        },
        |measurement| measure(measurement, args.seconds),
    )?;
    args.common.print(&rows, table)
}

fn name(queue: Queue) -> String {
    queue.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
}

/// Does what all queues have in common.
struct Bench {
    clock: Clock,
    payloads: Payloads,
    plan: Plan,
    producers: usize,
    start: u64,
}

impl Bench {
    /// Lets each producer push with what is its own, while this thread takes out what they push.
    fn run<P: Send>(
        &self,
        pushers: Vec<P>,
        push: impl Fn(&mut P, &Record) -> bool + Sync,
        mut take: impl FnMut() -> bool + Send,
    ) -> Result<Vec<Produced>> {
        let pushers: Vec<_> = pushers.into_iter().map(|pusher| Mutex::new(Some(pusher))).collect();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let is_over = &is_over;
            scope.spawn(move || {
                loop {
                    let was_over = is_over.load(Ordering::Acquire);
                    if take() {
                        continue;
                    }
                    match (was_over, self.plan.rate) {
                        (true, _) => break,
                        (false, Some(_)) => thread::sleep(Duration::from_micros(100)),
                        (false, None) => thread::yield_now(),
                    }
                }
            });
            let produced = on_threads(self.producers, |producer| {
                let pusher = pushers.get(producer).and_then(|pusher| pusher.lock().take());
                let mut pusher = pusher.context("a producer without a queue")?;
                produce(&self.clock, &self.plan, self.start, |index| {
                    let record = self.payloads.at(index).try_into()?;
                    while !push(&mut pusher, record) {
                        thread::yield_now();
                    }
                    Ok(())
                })
            });
            is_over.store(true, Ordering::Release);
            produced
        })
    }
}

fn measure(measurement: &Measurement, seconds: f64) -> Result<Row> {
    let Measurement { queue, producers, rate } = *measurement;
    let clock = Clock::new();
    let plan = Plan {
        rate: (rate > 0.0).then_some(rate),
        warm_up: Duration::from_millis(500),
        duration: Duration::from_secs_f64(seconds),
        wait: if producers < process::cores()?.len() { Wait::Spin } else { Wait::Yield },
    };
    let start = clock.now() + clock.ticks(Duration::from_millis(50)) as u64;
    let bench = Bench { clock, payloads: Payloads::new(SIZE), plan, producers, start };
    let produced = match queue {
        Queue::None => {
            bench.run(vec![(); producers], |(), record| !std::hint::black_box(record).is_empty(), || false)?
        }
        Queue::Rtrb => {
            let (push, mut take) = rtrb::RingBuffer::<Record>::new(CAPACITY);
            bench.run(
                vec![push],
                |queue, record| queue.push(*record).is_ok(),
                move || look(take.pop().ok()),
            )?
        }
        Queue::Crossbeam => {
            let queue = ArrayQueue::<Record>::new(CAPACITY);
            let pushers = vec![&queue; producers];
            bench.run(pushers, |queue, record| queue.push(*record).is_ok(), || look(queue.pop()))?
        }
        Queue::Disruptor if producers == 1 => {
            let builder = disruptor::build_single_producer(CAPACITY, || [0; SIZE], BusySpin);
            let (mut poller, builder): (EventPoller<Record, SingleProducerBarrier>, _) =
                builder.new_event_poller();
            let pushers = vec![builder.build()];
            let push = |queue: &mut _, record: &Record| publish(queue, record);
            bench
                .run(pushers, push, move || poller.poll().is_ok_and(|mut events| look_at_all(&mut events)))?
        }
        Queue::Disruptor => {
            let builder = disruptor::build_multi_producer(CAPACITY, || [0; SIZE], BusySpin);
            let (mut poller, builder): (EventPoller<Record, MultiProducerBarrier>, _) =
                builder.new_event_poller();
            let pushers = vec![builder.build(); producers];
            let push = |queue: &mut _, record: &Record| publish(queue, record);
            bench
                .run(pushers, push, move || poller.poll().is_ok_and(|mut events| look_at_all(&mut events)))?
        }
    };
    if produced.iter().any(|produced| produced.left_out > 0) {
        bail!("{queue:?} can't take {rate} records each second");
    }
    let (mut call, mut response) = (Latencies::new()?, Latencies::new()?);
    for of_producer in &produced {
        call.add(&of_producer.call)?;
        response.add(&of_producer.response)?;
    }
    Ok(Row {
        queue: name(queue),
        producers: producers as u64,
        rate,
        records_per_s: produced.iter().map(|produced| produced.rate).sum(),
        preemptions: produced.iter().map(|produced| produced.preemptions).sum(),
        call: call.percentiles(&clock),
        response: response.percentiles(&clock),
    })
}

fn publish(queue: &mut impl disruptor::Producer<Record>, record: &Record) -> bool {
    queue.try_publish(|slot| *slot = *record).is_ok()
}

/// Takes a record as read, if there is one.
fn look(record: Option<Record>) -> bool {
    std::hint::black_box(&record).is_some()
}

fn look_at_all<'a>(records: impl Iterator<Item = &'a Record>) -> bool {
    records.fold(false, |_, record| !std::hint::black_box(record).is_empty())
}
