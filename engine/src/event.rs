//! An event as it is emitted.

use semj_format::limits::SCORE_MAX;
use semj_format::{
    CausalityLink, Context, Draft, DraftContext, EventFlags, EventHeader, EventType, Measure, Priority,
};

use crate::error::Error;
use crate::front::Origin;
use crate::medium::Now;

/// An event as it is emitted. Borrows everything; build it where it happens:
///
/// ```
/// use semj::{Event, EventType, Priority};
/// let event = Event::new(EventType::FILESYSTEM_WRITE)
///     .path("/project/main.rs")
///     .inode(4711, 0o100000)
///     .priority(Priority::HIGH)
///     .payload(br#"{"bytes":512}"#);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    draft: Draft<'a>,
    has_ktime: bool,
    has_process_id: bool,
    has_cpu_id: bool,
    /// Whether the context has no fields but those that methods here set one by one.
    is_plain: bool,
}

impl<'a> Event<'a> {
    /// An event of this type, visible to agents and of normal priority. Time, process and processor are those
    /// of the emission unless they are set.
    #[inline]
    pub const fn new(event_type: EventType) -> Self {
        Self {
            draft: Draft::new(EventHeader::new(event_type.0)),
            has_ktime: false,
            has_process_id: false,
            has_cpu_id: false,
            is_plain: true,
        }
    }

    /// Sets the emitter's own refinement of the type.
    #[inline]
    pub const fn subtype(mut self, subtype: u32) -> Self {
        self.draft.header.event_subtype = subtype;
        self
    }

    /// Sets the flags, in place of [`EventFlags::AGENT_VISIBLE`].
    #[inline]
    pub const fn flags(mut self, flags: EventFlags) -> Self {
        self.draft.header.event_flags = flags.0;
        self
    }

    /// Sets the priority.
    #[inline]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.draft.header.event_priority = priority.0;
        self
    }

    /// Sets the time: nanoseconds of CLOCK_MONOTONIC.
    #[inline]
    pub const fn ktime_ns(mut self, ktime_ns: i64) -> Self {
        self.draft.header.ktime_ns = ktime_ns;
        self.has_ktime = true;
        self
    }

    /// Sets the process that caused the event.
    #[inline]
    pub const fn process_id(mut self, process_id: u32) -> Self {
        self.draft.header.process_id = process_id;
        self.has_process_id = true;
        self
    }

    /// Sets the processor that the event happened on.
    #[inline]
    pub const fn cpu_id(mut self, cpu_id: u32) -> Self {
        self.draft.header.cpu_id = cpu_id;
        self.has_cpu_id = true;
        self
    }

    /// Sets the event that led to this one and the first event of the chain.
    #[inline]
    pub const fn caused_by(mut self, parent_event_id: u64, root_cause_event_id: u64) -> Self {
        self.draft.header.parent_event_id = parent_event_id;
        self.draft.header.root_cause_event_id = root_cause_event_id;
        self
    }

    /// Sets which agents may see the event, in place of all, and how much it matters to them, 0 to 100.
    #[inline]
    pub const fn agents(mut self, visibility_mask: u64, relevance_score: u32) -> Self {
        self.draft.header.agent_visibility_mask = visibility_mask;
        self.draft.header.agent_relevance_score = relevance_score;
        self
    }

    /// Sets the priority in replay.
    #[inline]
    pub const fn replay_priority(mut self, priority: Priority) -> Self {
        self.draft.header.replay_priority = priority.0;
        self
    }

    /// Sets the whole context.
    #[inline]
    pub const fn context(mut self, context: Context<'a>) -> Self {
        self.draft.context = DraftContext::Fields(context);
        self.is_plain = false;
        self
    }

    /// Sets the context's path.
    #[inline]
    pub fn path(mut self, path: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.fields().path = path.as_ref();
        self
    }

    /// Sets the context's inode number and file type (`st_mode & S_IFMT`).
    #[inline]
    pub fn inode(mut self, inode_number: u64, file_type: u32) -> Self {
        let context = self.fields();
        context.inode_number = inode_number;
        context.file_type = file_type;
        self
    }

    /// Sets the payload, at most 65,536 bytes.
    #[inline]
    pub const fn payload(mut self, payload: &'a [u8]) -> Self {
        self.draft.payload = payload;
        self
    }

    /// Sets the metadata, at most 2,048 bytes.
    #[inline]
    pub const fn metadata(mut self, metadata: &'a [u8]) -> Self {
        self.draft.metadata = metadata;
        self
    }

    /// Sets the causality links, at most 256.
    #[inline]
    pub const fn links(mut self, links: &'a [CausalityLink]) -> Self {
        self.draft.links = links;
        self
    }

    #[inline]
    fn fields(&mut self) -> &mut Context<'a> {
        if !matches!(self.draft.context, DraftContext::Fields(_)) {
            self.draft.context = DraftContext::Fields(Context::default());
        }
        match &mut self.draft.context {
            DraftContext::Fields(context) => context,
            // Just set.
            _ => unreachable!(),
        }
    }

    /// The record to be.
    #[inline(always)]
    pub(crate) fn draft(&self) -> &Draft<'a> {
        &self.draft
    }

    /// When, where and by whom it is emitted, but for what is set.
    #[inline(always)]
    pub(crate) fn origin(&self, now: Now, process_id: u32) -> Origin {
        let said = Origin::of(&self.draft.header);
        Origin {
            ktime_ns: if self.has_ktime { said.ktime_ns } else { now.monotonic_ns },
            process_id: if self.has_process_id { said.process_id } else { process_id },
            cpu_id: if self.has_cpu_id { said.cpu_id } else { now.cpu_id },
        }
    }

    /// What the record takes, if the format and the kernel allow it.
    #[inline(always)]
    pub(crate) fn measure(&self) -> Result<Measure, Error> {
        self.check_scores()?;
        let draft = &self.draft;
        check_type(draft)?;
        Ok(if self.is_plain { draft.measure_plain()? } else { draft.measure()? })
    }

    /// Checks what the format does not, but the kernel demands.
    #[inline(always)]
    fn check_scores(&self) -> Result<(), Error> {
        let mut scores = self.draft.header.agent_relevance_score;
        // None of a plain context's fields is a score.
        if !self.is_plain
            && let DraftContext::Fields(context) = &self.draft.context
        {
            scores = scores.max(context.agent_confidence).max(context.semantic_confidence);
        }
        for link in self.draft.links {
            scores = scores.max(link.causality_strength);
        }
        // A copy: a reference would keep the event in memory (see `Front::push`).
        if scores > SCORE_MAX { Err((*self).score_error()) } else { Ok(()) }
    }

    #[cold]
    fn score_error(self) -> Error {
        let mut scores = vec![("agent_relevance_score", self.draft.header.agent_relevance_score)];
        if let DraftContext::Fields(context) = &self.draft.context {
            scores.push(("agent_confidence", context.agent_confidence));
            scores.push(("semantic_confidence", context.semantic_confidence));
        }
        scores.extend(self.draft.links.iter().map(|link| ("causality_strength", link.causality_strength)));
        let (field, value) = scores.into_iter().find(|(_, value)| *value > SCORE_MAX).unwrap_or_default();
        Error::Score { field, value }
    }
}

/// The journal's own types are not for emitting.
#[inline(always)]
pub(crate) fn check_type(draft: &Draft<'_>) -> Result<(), Error> {
    let event_type = EventType(draft.header.event_type);
    if event_type.is_journal() { Err(Error::ReservedType { event_type }) } else { Ok(()) }
}
