//! A commit group that is being gathered.

use semj_format::{Draft, Record, Records};

/// Encoded records that will be committed together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    events: u32,
    first_event_id: u64,
    last_event_id: u64,
}

impl Batch {
    /// An empty batch with room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Encodes a record behind the others. `size` is the draft's encoded size.
    pub(crate) fn push(&mut self, draft: &Draft<'_>, size: usize) {
        let start = self.bytes.len();
        self.bytes.resize(start + size, 0);
        draft.encode_into(&mut self.bytes[start..]);
        let id = draft.header.event_id;
        if id != 0 {
            self.events += 1;
            self.last_event_id = id;
            if self.first_event_id == 0 {
                self.first_event_id = id;
            }
        }
    }

    /// The records with their offsets in the batch.
    pub(crate) fn records(&self) -> impl Iterator<Item = (usize, Record<'_>)> {
        // Encoded here, so no frame is wrong.
        Records::new(&self.bytes, 0).map_while(Result::ok)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn events(&self) -> u32 {
        self.events
    }

    /// 0 where there is no event.
    pub(crate) fn first_event_id(&self) -> u64 {
        self.first_event_id
    }

    /// 0 where there is no event.
    pub(crate) fn last_event_id(&self) -> u64 {
        self.last_event_id
    }

    /// Empties the batch. Memory beyond `capacity`, which an unusually large batch needed, is given back.
    pub(crate) fn clear(&mut self, capacity: usize) {
        let Self { mut bytes, .. } = std::mem::take(self);
        bytes.clear();
        bytes.shrink_to(capacity);
        self.bytes = bytes;
    }
}
