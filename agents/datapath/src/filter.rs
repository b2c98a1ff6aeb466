//! Security-group rules as a kernel filter: who may open a connection to one port.
//!
//! A [`SourceSet`] is what the rules come to for one port: disjoint, sorted ranges of source addresses.
//! It answers in user space ([`SourceSet::contains`]) and compiles into a classic BPF program
//! ([`SourceSet::program`]) that the kernel runs on every packet that reaches a listening socket. The
//! port need not be looked at: a packet that gets there was sent to the listener's port.
//!
//! The program is a binary search over the ranges' boundaries, so that hundreds of prefixes cost about
//! ten comparisons a packet. A conditional jump of classic BPF reaches 255 instructions and only
//! forward; the search is cut into blocks small enough to share one pair of verdicts, and blocks are
//! reached by unconditional jumps, which have no such limit.

use std::net::Ipv4Addr;

use postern_model::security::{IngressRule, Protocol};
use socket2::SockFilter;

/// The longest classic BPF program that the kernel takes (`BPF_MAXINSNS`).
const LONGEST: usize = 4_096;
/// Boundaries in one block: the block's comparisons and its two verdicts stay within a jump's reach.
const BLOCK: usize = 240;
/// `SKF_NET_OFF`: offsets from here are relative to the network header. It is negative in the kernel's
/// headers and unsigned in an instruction.
const NETWORK_HEADER: u32 = (-0x10_0000_i32) as u32;
/// Where an IPv4 header has the source address.
const SOURCE: u32 = 12;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// The verdict "keep the whole packet".
const ACCEPT: u32 = u32::MAX;
/// The verdict "keep nothing of it".
const DROP: u32 = 0;

/// The sources that may connect to one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSet {
    // Invariant: sorted, both ends included, and at least one address apart from each other.
    ranges: Vec<(u32, u32)>,
}

/// The rules come to more separate ranges than a program can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ranges} separate source ranges need {instructions} instructions, of at most {LONGEST}")]
pub struct FilterTooLarge {
    ranges: usize,
    instructions: usize,
}

/// One instruction of a classic BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when the comparison holds.
    pub if_true: u8,
    /// How many instructions to skip when it does not.
    pub if_false: u8,
    /// The operand.
    pub operand: u32,
}

impl From<Instruction> for SockFilter {
    fn from(instruction: Instruction) -> Self {
        let Instruction { code, if_true, if_false, operand } = instruction;
        Self::new(code, if_true, if_false, operand)
    }
}

impl SourceSet {
    /// The sources that `rules` let connect to TCP `port`.
    pub fn of(rules: &[IngressRule], port: u16) -> Self {
        let mut ranges: Vec<(u32, u32)> = rules
            .iter()
            .filter(|rule| rule.admits(Protocol::Tcp, port))
            .map(|rule| rule.source.net())
            .map(|net| (u32::from(net.network()), u32::from(net.broadcast())))
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                // Touching ranges become one: no boundary is between them.
                Some((_, end)) if low <= end.saturating_add(1) => *end = high.max(*end),
                _ => merged.push((low, high)),
            }
        }
        Self { ranges: merged }
    }

    /// Whether `source` may connect.
    pub fn contains(&self, source: Ipv4Addr) -> bool {
        let source = u32::from(source);
        let after = self.ranges.partition_point(|(low, _)| *low <= source);
        after > 0 && source <= self.ranges[after - 1].1
    }

    /// How many separate ranges there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether nobody may connect.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The addresses at which the verdict changes, ascending. Below the first it is "drop", unless the
    /// first is 0.
    fn boundaries(&self) -> Vec<u32> {
        // A range that ends with the last address has no boundary after it.
        self.ranges
            .iter()
            .flat_map(|(low, high)| [Some(*low), high.checked_add(1)])
            .flatten()
            .collect()
    }

    /// The filter as a program for the kernel.
    pub fn program(&self) -> Result<Vec<Instruction>, FilterTooLarge> {
        let boundaries = self.boundaries();
        let mut program = vec![instruction(LOAD_WORD, 0, 0, NETWORK_HEADER.wrapping_add(SOURCE))];
        search(&boundaries, false, &mut program);
        if program.len() > LONGEST {
            let (ranges, instructions) = (self.ranges.len(), program.len());
            return Err(FilterTooLarge { ranges, instructions });
        }
        Ok(program)
    }
}

fn instruction(code: u16, if_true: u8, if_false: u8, operand: u32) -> Instruction {
    Instruction { code, if_true, if_false, operand }
}

/// Appends the search of `boundaries`, below the first of which the verdict is `accept`.
fn search(boundaries: &[u32], accept: bool, program: &mut Vec<Instruction>) {
    if boundaries.len() <= BLOCK {
        return block(boundaries, accept, program);
    }
    let middle = boundaries.len() / 2;
    // At or above the middle: to the jump, and by it over the lower half. Below: over the jump.
    program.push(instruction(JUMP_IF_AT_LEAST, 0, 1, boundaries[middle]));
    let jump = program.len();
    program.push(instruction(JUMP, 0, 0, 0));
    search(&boundaries[..middle], accept, program);
    program[jump].operand = (program.len() - jump - 1) as u32;
    // The middle is behind us: the verdict has changed as often as there are boundaries up to it.
    search(&boundaries[middle + 1..], accept ^ ((middle + 1) % 2 == 1), program);
}

/// Appends a search that fits the reach of a conditional jump, and its two verdicts.
fn block(boundaries: &[u32], accept: bool, program: &mut Vec<Instruction>) {
    let start = program.len();
    let verdicts = start + boundaries.len();
    comparisons(boundaries, accept, verdicts, program);
    if boundaries.is_empty() {
        program.push(instruction(RETURN, 0, 0, if accept { ACCEPT } else { DROP }));
    } else {
        program.push(instruction(RETURN, 0, 0, ACCEPT));
        program.push(instruction(RETURN, 0, 0, DROP));
    }
}

/// Appends one comparison for each boundary: the middle one, then the lower half, then the upper.
fn comparisons(boundaries: &[u32], accept: bool, verdicts: usize, program: &mut Vec<Instruction>) {
    if boundaries.is_empty() {
        return;
    }
    let middle = boundaries.len() / 2;
    let (below, above) = (&boundaries[..middle], &boundaries[middle + 1..]);
    let accept_above = accept ^ ((middle + 1) % 2 == 1);
    // Jumps count from the instruction after this one.
    let next = program.len() + 1;
    let verdict = |accept: bool| verdicts + usize::from(!accept);
    let if_false = if below.is_empty() { verdict(accept) } else { next };
    let if_true = if above.is_empty() { verdict(accept_above) } else { next + below.len() };
    // BLOCK keeps both within a byte.
    let (if_true, if_false) = ((if_true - next) as u8, (if_false - next) as u8);
    program.push(instruction(JUMP_IF_AT_LEAST, if_true, if_false, boundaries[middle]));
    comparisons(below, accept, verdicts, program);
    comparisons(above, accept_above, verdicts, program);
}

#[cfg(test)]
mod tests;
