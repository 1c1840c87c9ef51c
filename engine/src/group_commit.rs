//! Group commit: all who wait for durability at the same time share one sync of the disk.
//!
//! Who has to wait joins the *group* that is forming. One member of it leads: it closes the group, has everything
//! appended that was emitted before, syncs, and tells the others. Who comes after the closing belongs to the next
//! group, which is led by one of its own members as soon as the disk is free. No thread stands between a caller and the
//! disk, and a thread that has been served is woken once, together with its group and with nobody else.
//!
//! # Why it is right
//!
//! * Whoever joins a group has emitted before it joined, and the leader reads how far there is something to append
//!   after it has closed the group. So the sync covers all members.
//! * Nobody sleeps through its turn: each group has a word that is changed whenever something happens to the group, and
//!   a member sleeps only while the word is what it was when the member last looked, under the lock.

use std::task::Waker;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Mutex, Ordering, Word};

/// How long a leader waits at most for those that the last sync has served to come again. With fewer of them than
/// before, a sync would serve half of them and the rest would wait for a whole one more.
const GATHER_WAIT: Duration = Duration::from_micros(40);

/// See the module.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    groups: Mutex<Groups>,
    /// For the members of even and odd groups.
    words: [Word; 2],
    /// The last group that was served.
    served: AtomicU64,
    /// The highest event id that is durable.
    durable_id: AtomicU64,
}

#[derive(Debug)]
struct Groups {
    /// Somebody leads.
    is_led: bool,
    /// The group that is being served takes no members any more.
    is_closed: bool,
    /// The group that is forming or being served.
    current: u64,
    /// Members of even and odd groups.
    members: [u32; 2],
    /// How many the last sync has served.
    last_served: u32,
    /// Those who do not sleep but want to be told when an id is durable.
    wakers: Vec<(u64, Waker)>,
    has_failed: bool,
}

/// What a member is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Its group was served.
    Served,
    /// Lead: close the group, serve it, and say so with [`GroupCommit::finish`].
    Lead,
    /// The journal has failed.
    Failed,
}

/// A member of a group, until it is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    group: u64,
}

impl GroupCommit {
    pub(crate) fn new(durable_id: u64) -> Self {
        Self {
            groups: Mutex::new(Groups {
                is_led: false,
                is_closed: false,
                current: 1,
                members: [0; 2],
                last_served: 0,
                wakers: Vec::new(),
                has_failed: false,
            }),
            words: [Word::new(), Word::new()],
            served: AtomicU64::new(0),
            durable_id: AtomicU64::new(durable_id),
        }
    }

    /// The highest event id that is durable.
    #[inline]
    pub(crate) fn durable_id(&self) -> u64 {
        self.durable_id.load(Ordering::Acquire)
    }

    /// Becomes a member of the group that the next sync serves. What it is to cover has been emitted.
    pub(crate) fn join(&self) -> Member {
        let mut groups = self.groups.lock();
        let group = groups.current + u64::from(groups.is_closed);
        groups.members[(group % 2) as usize] += 1;
        Member { group }
    }

    /// Waits until the member's group is served or has nobody to lead it.
    pub(crate) fn wait(&self, member: Member) -> Turn {
        let word = &self.words[(member.group % 2) as usize];
        loop {
            if self.served.load(Ordering::Acquire) >= member.group {
                return Turn::Served;
            }
            let mut groups = self.groups.lock();
            if groups.current > member.group {
                return Turn::Served;
            }
            if groups.has_failed {
                return Turn::Failed;
            }
            if !groups.is_led {
                groups.is_led = true;
                return Turn::Lead;
            }
            let seen = word.get();
            drop(groups);
            word.wait(seen);
        }
    }

    /// For a leader: lets those come whom the last sync has served, then closes the group. Gives how many members it has.
    pub(crate) fn close_group(&self, gathers: bool) -> u32 {
        let mut waits_since = None;
        loop {
            let mut groups = self.groups.lock();
            let here = groups.members[(groups.current % 2) as usize];
            if !gathers
                || here >= groups.last_served
                || waits_since.get_or_insert_with(Instant::now).elapsed() >= GATHER_WAIT
            {
                groups.is_closed = true;
                return here;
            }
            drop(groups);
            std::thread::yield_now();
        }
    }

    /// For a leader: the group is served, and everything up to the id is durable. Tells those who wait for it, and gives how many
    /// members the group had; `None` if the journal has failed meanwhile, after which nothing is acknowledged.
    pub(crate) fn finish(&self, durable_id: u64) -> Option<u32> {
        let mut groups = self.groups.lock();
        if groups.has_failed {
            return None;
        }
        self.durable_id.store(durable_id, Ordering::Release);
        let group = groups.current;
        let members = &mut groups.members;
        let served = std::mem::take(&mut members[(group % 2) as usize]);
        let waiting = members[((group + 1) % 2) as usize];
        // Those who were served are likely to come again, together with those who wait already.
        groups.last_served = served + waiting;
        groups.is_led = false;
        groups.is_closed = false;
        groups.current += 1;
        let wakers: Vec<_> = groups.wakers.extract_if(.., |(id, _)| *id <= durable_id).collect();
        self.served.store(group, Ordering::Release);
        let word = &self.words[(group % 2) as usize];
        let next = &self.words[((group + 1) % 2) as usize];
        word.change();
        next.change();
        drop(groups);
        if waiting > 0 {
            next.wake_one();
        }
        if served > 1 {
            word.wake_all();
        }
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
        Some(served)
    }

    /// The journal has failed: nobody is served any more.
    pub(crate) fn fail(&self) {
        let mut groups = self.groups.lock();
        groups.has_failed = true;
        let wakers = std::mem::take(&mut groups.wakers);
        self.words.iter().for_each(Word::change);
        drop(groups);
        self.words.iter().for_each(Word::wake_all);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Has the waker called when the id is durable or the journal has failed. False if that is so already.
    #[cfg(feature = "async")]
    pub(crate) fn register(&self, id: u64, waker: &Waker) -> bool {
        let mut groups = self.groups.lock();
        if groups.has_failed || self.durable_id() >= id {
            return false;
        }
        if !groups.wakers.iter().any(|(of, known)| *of == id && known.will_wake(waker)) {
            groups.wakers.push((id, waker.clone()));
        }
        true
    }

    /// Whether somebody is to be told of an id that is not durable.
    pub(crate) fn has_wakers(&self) -> bool {
        !self.groups.lock().wakers.is_empty()
    }
}

#[cfg(test)]
#[cfg(loom)]
mod tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A journal that is a number: what was emitted, and what of it is durable.
    struct Model {
        group_commit: GroupCommit,
        emitted: AtomicU64,
        durable: AtomicU64,
    }

    impl Model {
        fn new() -> Arc<Self> {
            let (emitted, durable) = (AtomicU64::new(0), AtomicU64::new(0));
            Arc::new(Self { group_commit: GroupCommit::new(0), emitted, durable })
        }

        /// Emits and waits, as a caller does. False if the journal has failed.
        fn emit_durable(&self) -> bool {
            let id = self.emitted.fetch_add(1, Ordering::AcqRel) + 1;
            let member = self.group_commit.join();
            loop {
                match self.group_commit.wait(member) {
                    Turn::Failed => return false,
                    Turn::Served => {
                        assert!(self.durable.load(Ordering::Acquire) >= id, "{id} was served");
                        return true;
                    }
                    Turn::Lead => {
                        self.group_commit.close_group(false);
                        let upto = self.emitted.load(Ordering::Acquire);
                        self.durable.store(upto, Ordering::Release);
                        if self.group_commit.finish(upto).is_none() {
                            return false;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn whoever_waits_is_served_by_a_sync_that_covers_it_and_nobody_sleeps_for_ever() {
        // All interleavings of three threads take hours; those with up to three preemptions find what there is to find.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let model = Model::new();
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let model = Arc::clone(&model);
                    thread::spawn(move || model.emit_durable())
                })
                .collect();
            assert!(model.emit_durable());
            assert!(others.into_iter().all(|other| other.join().unwrap()));
            assert_eq!(model.group_commit.durable_id(), 3);
        });
    }

    #[test]
    fn a_failure_reaches_everybody_who_waits() {
        loom::model(|| {
            let model = Model::new();
            let other = {
                let model = Arc::clone(&model);
                thread::spawn(move || model.emit_durable())
            };
            model.group_commit.fail();
            let durable_id = model.group_commit.durable_id();
            // It was served before the failure, or is told of it, and nothing becomes durable after it.
            let is_served = other.join().unwrap();
            assert_eq!((is_served, model.group_commit.durable_id()), (durable_id == 1, durable_id));
            assert!(!model.emit_durable());
        });
    }
}
