//! An event as it is emitted.

use semj_format::limits::SCORE_MAX;
use semj_format::{
    CausalityLink, Context, Draft, DraftContext, EventFlags, EventHeader, EventType, Priority,
};

use crate::error::Error;
use crate::medium::Medium;

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
    header: EventHeader,
    ktime_ns: Option<i64>,
    process_id: Option<u32>,
    cpu_id: Option<u32>,
    context: Option<Context<'a>>,
    payload: &'a [u8],
    metadata: &'a [u8],
    links: &'a [CausalityLink],
}

impl<'a> Event<'a> {
    /// An event of this type, visible to agents and of normal priority. Time, process and processor are those
    /// of the emission unless they are set.
    pub const fn new(event_type: EventType) -> Self {
        Self {
            header: EventHeader::new(event_type.0),
            ktime_ns: None,
            process_id: None,
            cpu_id: None,
            context: None,
            payload: &[],
            metadata: &[],
            links: &[],
        }
    }

    /// Sets the emitter's own refinement of the type.
    pub const fn subtype(mut self, subtype: u32) -> Self {
        self.header.event_subtype = subtype;
        self
    }

    /// Sets the flags, in place of [`EventFlags::AGENT_VISIBLE`].
    pub const fn flags(mut self, flags: EventFlags) -> Self {
        self.header.event_flags = flags.0;
        self
    }

    /// Sets the priority.
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.header.event_priority = priority.0;
        self
    }

    /// Sets the time: nanoseconds of CLOCK_MONOTONIC.
    pub const fn ktime_ns(mut self, ktime_ns: i64) -> Self {
        self.ktime_ns = Some(ktime_ns);
        self
    }

    /// Sets the process that caused the event.
    pub const fn process_id(mut self, process_id: u32) -> Self {
        self.process_id = Some(process_id);
        self
    }

    /// Sets the processor that the event happened on.
    pub const fn cpu_id(mut self, cpu_id: u32) -> Self {
        self.cpu_id = Some(cpu_id);
        self
    }

    /// Sets the event that led to this one and the first event of the chain.
    pub const fn caused_by(mut self, parent_event_id: u64, root_cause_event_id: u64) -> Self {
        self.header.parent_event_id = parent_event_id;
        self.header.root_cause_event_id = root_cause_event_id;
        self
    }

    /// Sets which agents may see the event, in place of all, and how much it matters to them, 0 to 100.
    pub const fn agents(mut self, visibility_mask: u64, relevance_score: u32) -> Self {
        self.header.agent_visibility_mask = visibility_mask;
        self.header.agent_relevance_score = relevance_score;
        self
    }

    /// Sets the priority in replay.
    pub const fn replay_priority(mut self, priority: Priority) -> Self {
        self.header.replay_priority = priority.0;
        self
    }

    /// Sets the whole context.
    pub const fn context(mut self, context: Context<'a>) -> Self {
        self.context = Some(context);
        self
    }

    /// Sets the context's path.
    pub fn path(mut self, path: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.context.get_or_insert_default().path = path.as_ref();
        self
    }

    /// Sets the context's inode number and file type (`st_mode & S_IFMT`).
    pub fn inode(mut self, inode_number: u64, file_type: u32) -> Self {
        let context = self.context.get_or_insert_default();
        context.inode_number = inode_number;
        context.file_type = file_type;
        self
    }

    /// Sets the payload, at most 65,536 bytes.
    pub const fn payload(mut self, payload: &'a [u8]) -> Self {
        self.payload = payload;
        self
    }

    /// Sets the metadata, at most 2,048 bytes.
    pub const fn metadata(mut self, metadata: &'a [u8]) -> Self {
        self.metadata = metadata;
        self
    }

    /// Sets the causality links, at most 256.
    pub const fn links(mut self, links: &'a [CausalityLink]) -> Self {
        self.links = links;
        self
    }

    /// The record to be, without its id. What is not set is taken from where and when this is called.
    pub(crate) fn to_draft(self, medium: &dyn Medium) -> Result<Draft<'a>, Error> {
        let context = self.context.unwrap_or_default();
        let scores = [
            ("agent_relevance_score", self.header.agent_relevance_score),
            ("agent_confidence", context.agent_confidence),
            ("semantic_confidence", context.semantic_confidence),
        ];
        let strengths = self.links.iter().map(|link| ("causality_strength", link.causality_strength));
        if let Some((field, value)) =
            scores.into_iter().chain(strengths).find(|(_, value)| *value > SCORE_MAX)
        {
            return Err(Error::Score { field, value });
        }
        let header = EventHeader {
            ktime_ns: self.ktime_ns.unwrap_or_else(|| medium.monotonic_ns()),
            process_id: self.process_id.unwrap_or_else(std::process::id),
            cpu_id: self.cpu_id.unwrap_or_else(|| medium.cpu_id()),
            ..self.header
        };
        let context = match self.context {
            Some(context) => DraftContext::Fields(context),
            None => DraftContext::None,
        };
        Ok(Draft { header, context, payload: self.payload, metadata: self.metadata, links: self.links })
    }
}
