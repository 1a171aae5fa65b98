//! Slots of a few fixed sizes in pages: where lives lie in memory, without an allocation for each.
//!
//! A slot is named by a handle of 32 bits. A page holds slots of one size and is given back when
//! its last slot is. It must never move a slot: whoever holds a handle finds its bytes there until
//! the slot is given back.

/// Bytes of a page.
const PAGE_BYTES: usize = 32 * 1024;
/// What a handle counts in, in bytes.
const UNIT_BYTES: usize = 8;
const UNITS: u32 = (PAGE_BYTES / UNIT_BYTES) as u32;
/// Pages that handles can name: 32 GiB of them.
const PAGES_MAX: usize = (u32::MAX / UNITS) as usize;
/// Slots grow in steps of one unit up to here, and in steps of eight beyond.
const SMALL_BYTES_MAX: usize = 256;
const LARGE_STEP_BYTES: usize = 64;
/// Bytes of the largest slot.
pub(super) const SLOT_BYTES_MAX: usize = 4_096;
/// Bytes of the smallest slot: it must hold its length and, when it is free, the next free slot.
const SLOT_BYTES_MIN: usize = 24;
const CLASSES: usize =
    SMALL_BYTES_MAX / UNIT_BYTES + (SLOT_BYTES_MAX - SMALL_BYTES_MAX) / LARGE_STEP_BYTES + 1;
/// No slot.
const NONE: u16 = u16::MAX;

/// The size class of so many bytes.
fn class_of(bytes: usize) -> usize {
    let bytes = bytes.max(SLOT_BYTES_MIN);
    match bytes <= SMALL_BYTES_MAX {
        true => bytes.div_ceil(UNIT_BYTES),
        false => {
            SMALL_BYTES_MAX / UNIT_BYTES + (bytes - SMALL_BYTES_MAX).div_ceil(LARGE_STEP_BYTES)
        }
    }
}

/// Bytes of the slots of a class.
fn bytes_of(class: usize) -> usize {
    match class.checked_sub(SMALL_BYTES_MAX / UNIT_BYTES) {
        None => class * UNIT_BYTES,
        Some(steps) => SMALL_BYTES_MAX + steps * LARGE_STEP_BYTES,
    }
}

/// Slots of one size.
struct Page {
    /// Empty where the page was given back.
    bytes: Box<[u8]>,
    class: u8,
    /// Slots in use.
    live: u16,
    /// The first of the slots that were given back; each holds the next one.
    free: u16,
    /// Slots from here on were never used.
    fresh: u16,
    /// Its place among the pages of its class that have room; `u32::MAX` = it is full.
    room_at: u32,
}

/// All slots of a partition.
pub(super) struct Slab {
    pages: Vec<Page>,
    /// Of each class the pages that have room.
    room: Vec<Vec<u32>>,
    /// Pages that were given back.
    vacant: Vec<u32>,
}

impl Slab {
    pub(super) fn new() -> Self {
        Self {
            pages: Vec::new(),
            room: vec![Vec::new(); CLASSES],
            vacant: Vec::new(),
        }
    }

    /// Bytes held, those of empty slots in pages in use among them.
    pub(super) fn held_bytes(&self) -> usize {
        let in_use = self.pages.len() - self.vacant.len();
        in_use * PAGE_BYTES + self.pages.capacity() * size_of::<Page>()
    }

    /// Whether so many bytes fit where the slot is.
    pub(super) fn fits(&self, handle: u32, bytes: usize) -> bool {
        usize::from(self.pages[(handle / UNITS) as usize].class) == class_of(bytes)
    }

    /// A slot for so many bytes; `None` where they are too many, or every page is taken. What is
    /// in it is left from before.
    pub(super) fn take(&mut self, bytes: usize) -> Option<u32> {
        if bytes > SLOT_BYTES_MAX {
            return None;
        }
        let class = class_of(bytes);
        let number = match self.room[class].last() {
            Some(page) => *page,
            None => self.page(class)?,
        };
        let slot_bytes = bytes_of(class);
        let page = &mut self.pages[number as usize];
        let slot = match page.free {
            NONE => {
                page.fresh += 1;
                page.fresh - 1
            }
            free => {
                let at = usize::from(free) * slot_bytes;
                page.free = u16::from_le_bytes([page.bytes[at], page.bytes[at + 1]]);
                free
            }
        };
        page.live += 1;
        let slots = PAGE_BYTES / slot_bytes;
        if page.free == NONE && usize::from(page.fresh) == slots {
            self.leave_room(number);
        }
        Some(number * UNITS + (usize::from(slot) * slot_bytes / UNIT_BYTES) as u32)
    }

    /// Gives a slot back.
    pub(super) fn give_back(&mut self, handle: u32) {
        let number = handle / UNITS;
        let page = &mut self.pages[number as usize];
        let at = (handle % UNITS) as usize * UNIT_BYTES;
        let slot = at / bytes_of(usize::from(page.class));
        page.bytes[at..at + 2].copy_from_slice(&page.free.to_le_bytes());
        page.free = slot as u16;
        page.live -= 1;
        if page.live == 0 {
            if page.room_at != u32::MAX {
                self.leave_room(number);
            }
            self.pages[number as usize].bytes = Box::default();
            self.vacant.push(number);
        } else if page.room_at == u32::MAX {
            self.enter_room(number);
        }
    }

    pub(super) fn get(&self, handle: u32) -> &[u8] {
        let (page, range) = self.place(handle);
        &self.pages[page].bytes[range]
    }

    pub(super) fn get_mut(&mut self, handle: u32) -> &mut [u8] {
        let (page, range) = self.place(handle);
        &mut self.pages[page].bytes[range]
    }

    fn place(&self, handle: u32) -> (usize, std::ops::Range<usize>) {
        let page = (handle / UNITS) as usize;
        let at = (handle % UNITS) as usize * UNIT_BYTES;
        let slot_bytes = bytes_of(usize::from(self.pages[page].class));
        (page, at..at + slot_bytes)
    }

    /// A page with room for a class, new or given back before.
    fn page(&mut self, class: usize) -> Option<u32> {
        let page = Page {
            bytes: vec![0; PAGE_BYTES].into_boxed_slice(),
            class: class as u8,
            live: 0,
            free: NONE,
            fresh: 0,
            room_at: u32::MAX,
        };
        let number = match self.vacant.pop() {
            Some(number) => {
                self.pages[number as usize] = page;
                number
            }
            None if self.pages.len() == PAGES_MAX => return None,
            None => {
                self.pages.push(page);
                self.pages.len() as u32 - 1
            }
        };
        self.enter_room(number);
        Some(number)
    }

    fn enter_room(&mut self, number: u32) {
        let page = &mut self.pages[number as usize];
        let room = &mut self.room[usize::from(page.class)];
        page.room_at = room.len() as u32;
        room.push(number);
    }

    fn leave_room(&mut self, number: u32) {
        let page = &mut self.pages[number as usize];
        let at = std::mem::replace(&mut page.room_at, u32::MAX);
        let room = &mut self.room[usize::from(page.class)];
        room.swap_remove(at as usize);
        if let Some(moved) = room.get(at as usize) {
            self.pages[*moved as usize].room_at = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_size_has_a_slot_that_holds_it_and_wastes_little() {
        for bytes in 1..=SLOT_BYTES_MAX {
            let class = class_of(bytes);
            assert!(class < CLASSES);
            let slot = bytes_of(class);
            assert!(slot >= bytes, "{bytes}");
            let step = if bytes <= SMALL_BYTES_MAX {
                UNIT_BYTES
            } else {
                LARGE_STEP_BYTES
            };
            assert!(slot < bytes.max(SLOT_BYTES_MIN) + step, "{bytes}");
        }
        assert!(Slab::new().take(SLOT_BYTES_MAX + 1).is_none());
    }

    #[test]
    fn pages_are_given_back_with_their_last_slot() {
        let mut slab = Slab::new();
        let handles: Vec<u32> = (0..100_000).map(|_| slab.take(40).unwrap()).collect();
        let held = slab.held_bytes();
        assert!(held < 100_000 * 42, "{held}");
        for handle in handles {
            slab.give_back(handle);
        }
        assert!(slab.held_bytes() < held / 20, "{}", slab.held_bytes());
        // And they are used again, for any size.
        let again: Vec<u32> = (0..20_000).map(|_| slab.take(200).unwrap()).collect();
        assert!(slab.held_bytes() < held + held / 10);
        assert_eq!(again.len(), 20_000);
    }

    proptest! {
        /// No slot ever shares a byte with another one.
        #[test]
        fn slots_keep_what_was_put_there(
            steps in prop::collection::vec((any::<bool>(), 1_usize..600, any::<u16>()), 1..400)
        ) {
            let mut slab = Slab::new();
            let mut held: Vec<(u32, Vec<u8>)> = Vec::new();
            for (at, (takes, bytes, which)) in steps.into_iter().enumerate() {
                if takes || held.is_empty() {
                    let handle = slab.take(bytes).unwrap();
                    let content = vec![at as u8; bytes];
                    slab.get_mut(handle)[..bytes].copy_from_slice(&content);
                    held.push((handle, content));
                } else {
                    let (handle, _) = held.swap_remove(usize::from(which) % held.len());
                    slab.give_back(handle);
                }
                for (handle, content) in &held {
                    prop_assert_eq!(&slab.get(*handle)[..content.len()], &content[..]);
                }
            }
        }
    }
}
