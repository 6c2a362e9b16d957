//! The allocator of a handler: [talc](https://docs.rs/talc) over an arena that lies inside the initial memory, then
//! over memory that it grows. It never grows while the arena has room, because `memory.grow` changes the page
//! tables of the whole engine, which costs more than a small event does.

use core::{
    alloc::Layout,
    arch::wasm32::{memory_grow, memory_size},
    mem::MaybeUninit,
    ptr::NonNull,
};

use talc::{
    base::{CHUNK_UNIT, Talc, binning::Binning},
    cell::TalcSyncCell,
    source::Source,
    wasm::WasmBinning,
};

/// Bytes in a page of WebAssembly.
const PAGE: usize = 64 << 10;

/// The memory grows by an eighth of itself if one allocation does not need more: few steps, little to spare.
const STEP: usize = 8;

/// The type of the global allocator that [`handler!`](crate::handler) defines.
pub type Allocator = TalcSyncCell<ArenaThenGrow, WasmBinning>;

/// Makes the global allocator over `arena`.
///
/// # Safety
///
/// Nothing else may use `arena`.
pub const unsafe fn allocator<const BYTES: usize>(
    arena: *mut [MaybeUninit<u8>; BYTES],
) -> Allocator {
    TalcSyncCell::new_wasm(ArenaThenGrow {
        arena: Some((arena.cast(), BYTES)),
        end: None,
    })
}

/// Where the allocator gets its memory.
#[derive(Debug)]
pub struct ArenaThenGrow {
    /// The arena, until the first allocation claims it.
    arena: Option<(*mut u8, usize)>,
    /// The end of the memory that was grown last.
    end: Option<NonNull<u8>>,
}

// SAFETY: `acquire` allocates nothing.
unsafe impl Source for ArenaThenGrow {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        if let Some((arena, bytes)) = talc.source.arena.take() {
            // SAFETY: by the contract of `allocator` the arena is ours.
            unsafe { talc.claim(arena, bytes) };
            return Ok(());
        }
        // Enough for certain: talc asks again and again while this says Ok.
        let bytes = layout
            .size()
            .checked_add(layout.align() + talc::min_first_heap_size::<B>() + CHUNK_UNIT)
            .ok_or(())?;
        let (start, bytes) = grow(bytes.div_ceil(PAGE)).ok_or(())?;
        let claimed = match talc.source.end.take() {
            // SAFETY: the new memory is ours and follows ours.
            Some(end) if end.as_ptr() == start => {
                Some(unsafe { talc.extend(end, start.wrapping_add(bytes)) })
            }
            // SAFETY: the new memory is ours. Someone else grew the memory in between, or nobody ever did.
            _ => unsafe { talc.claim(start, bytes) },
        };
        talc.source.end = claimed;
        claimed.map(drop).ok_or(())
    }
}

/// Grows the memory by at least `pages`; gives the start and the size of what is new.
fn grow(pages: usize) -> Option<(*mut u8, usize)> {
    let generous = pages.max(memory_size::<0>() / STEP);
    [generous, pages].into_iter().find_map(|pages| {
        let before = memory_grow::<0>(pages);
        // The last page of a 4 GiB memory has no end that a pointer could name; talc stops short of it, and so do we.
        let bytes = pages.checked_mul(PAGE)?;
        (before != usize::MAX).then(|| ((before * PAGE) as *mut u8, bytes))
    })
}
