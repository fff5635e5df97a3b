//! Sequences of words, such as the captions of a batch, as a prefix tree.
//!
//! The hidden state after a prefix depends on the prefix alone. So a batch of sequences is a tree: a
//! **node** is a hidden state; it has a word (the one just read) and a parent (the state before);
//! the root is h₀; a sequence is the node of its last token. Two sequences that begin alike share the
//! nodes of their common beginning. The tree replaces padding, sorting by length and packing, and
//! it is exact.
//!
//! ```text
//! <start> a dog runs <end>            root ─ <start> ─ a ─┬─ dog ─┬─ runs ─ <end>
//! <start> a dog sleeps <end>                              │       └─ sleeps ─ <end>
//! <start> a cat <end>                                     └─ cat ─ <end>
//! ```
//!
//! Fourteen tokens, nine states; the recurrent product is needed once per *parent* (seven of them,
//! the root among them), the input product once per *distinct word*.
//!
//! # Numbering
//!
//! Nodes are numbered so that every product reads and writes contiguous rows: first the **inner**
//! nodes (those with children) level by level, the root being number 0, then the **leaves**, level by
//! level. A level is a time step: its nodes are one range of inner nodes and one range of leaves,
//! and its parents are the inner nodes of the level before.

use std::ops::Range;

/// One time step of the tree: the nodes at one depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// The inner nodes of the level before: the parents of this level's nodes.
    pub parents: Range<usize>,
    /// This level's nodes that have children.
    pub inner: Range<usize>,
    /// This level's nodes that have none.
    pub leaves: Range<usize>,
}

/// A batch of sequences as a tree; see the module's text.
///
/// ```
/// use vsepp::nn::PrefixTree;
///
/// let tree = PrefixTree::new(&[[1, 4, 5, 6, 2].as_slice(), &[1, 4, 5, 7, 2], &[1, 4, 8, 2]]);
/// assert_eq!(tree.nodes(), 10, "14 tokens, and the root, h₀");
/// assert_eq!(tree.words(), [1, 2, 4, 5, 6, 7, 8]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct PrefixTree {
    /// The distinct words of the batch, ascending, `[U]`.
    words: Vec<u32>,
    /// Each node's word as an index into `words`, `[N]`; the root's is 0 and never read.
    word_of: Vec<usize>,
    /// The nodes except the root, grouped by word.
    by_word: Groups,
    /// Each node's parent, `[N]`; the root's is 0 and never read.
    parent: Vec<usize>,
    /// The children of each inner node, `[P]`: a range of inner nodes and a range of leaves.
    children: Vec<[Range<usize>; 2]>,
    levels: Vec<Level>,
    /// The node at which each sequence ends, `[B]`.
    last: Vec<usize>,
    tokens: usize,
    draft: Draft,
}

/// Numbers that are sorted into groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// Group by group, in rising order within each.
    members: Vec<usize>,
    /// Where each group begins in `members`, and where the last one ends.
    starts: Vec<usize>,
}

impl Groups {
    /// Sorts `members` into `count` groups, reusing the buffers.
    pub(super) fn rebuild(&mut self, members: Range<usize>, count: usize, group_of: impl Fn(usize) -> usize) {
        let Self { members: sorted, starts } = self;
        sorted.clear();
        sorted.extend(members);
        sorted.sort_unstable_by_key(|&member| (group_of(member), member));
        starts.clear();
        starts.extend((0..=count).map(|group| sorted.partition_point(|&member| group_of(member) < group)));
    }

    /// The members of a group.
    pub(super) fn of(&self, group: usize) -> &[usize] {
        &self.members[self.starts[group]..self.starts[group + 1]]
    }
}

/// The tree while it is built: nodes in order of creation, number 0 being the root. It is kept only so
/// that the next batch reuses its buffers.
#[derive(Clone, Debug, Default)]
struct Draft {
    nodes: Vec<DraftNode>,
    /// The sequences in lexicographic order.
    sequences: Vec<usize>,
    /// The nodes of the previous sequence, from the root to its end.
    path: Vec<usize>,
    /// The node at which each sequence ends.
    ends: Vec<usize>,
    /// The nodes in the order of their final numbers, and the final number of each.
    order: Vec<usize>,
    number: Vec<usize>,
}

#[derive(Clone, Debug)]
struct DraftNode {
    parent: usize,
    word: u32,
    depth: usize,
    inner: bool,
}

impl PrefixTree {
    /// Builds the tree of a batch. An empty sequence ends at the root, whose state is h₀.
    #[must_use]
    pub fn new<C: AsRef<[u32]>>(sequences: &[C]) -> Self {
        let mut tree = Self::default();
        tree.rebuild(sequences);
        tree
    }

    /// The same as [`Self::new`], reusing the buffers of this tree.
    pub(crate) fn rebuild<C: AsRef<[u32]>>(&mut self, sequences: &[C]) {
        self.tokens = sequences.iter().map(|c| c.as_ref().len()).sum();
        self.draft.build(sequences);
        self.number();
        self.by_word.rebuild(1..self.word_of.len(), self.words.len(), |node| self.word_of[node]);
    }

    /// Gives the draft's nodes their final numbers: inner nodes by level, then leaves by level.
    fn number(&mut self) {
        let Draft { nodes: draft, ends, order, number, .. } = &mut self.draft;
        self.words.clear();
        self.words.extend(draft[1..].iter().map(|d| d.word));
        self.words.sort_unstable();
        self.words.dedup();

        order.clear();
        order.extend(0..draft.len());
        order.sort_unstable_by_key(|&d| (!draft[d].inner, draft[d].depth, d));
        number.clear();
        number.resize(draft.len(), 0);
        for (node, &d) in order.iter().enumerate() {
            number[d] = node;
        }
        let inner_nodes = draft.iter().filter(|d| d.inner).count();
        let depth = draft.iter().map(|d| d.depth).max().unwrap_or(0);

        // The nodes of one level, within a range of nodes that are sorted by level.
        let range = |nodes: Range<usize>, level: usize| {
            let start = nodes.start + order[nodes.clone()].partition_point(|&d| draft[d].depth < level);
            let end = nodes.start + order[nodes].partition_point(|&d| draft[d].depth <= level);
            start..end
        };
        let (inner, leaves) = (0..inner_nodes, inner_nodes..draft.len());
        self.levels.clear();
        self.levels.extend((1..=depth).map(|level| Level {
            parents: range(inner.clone(), level - 1),
            inner: range(inner.clone(), level),
            leaves: range(leaves.clone(), level),
        }));

        self.parent.clear();
        self.parent.extend(order.iter().map(|&d| number[draft[d].parent]));
        // Nodes are created depth first, so the children of one parent come in one run within their level,
        // and still do after the sort has separated inner nodes from leaves.
        self.children.clear();
        self.children.resize(inner_nodes, [0..0, 0..0]);
        for (node, &parent) in self.parent.iter().enumerate().skip(1) {
            let range = &mut self.children[parent][usize::from(node >= inner_nodes)];
            *range = if range.start == range.end { node..node + 1 } else { range.start..node + 1 };
        }
        let words = &self.words;
        let word_of = |&d: &usize| if d == 0 { 0 } else { words.partition_point(|&w| w < draft[d].word) };
        self.word_of.clear();
        self.word_of.extend(order.iter().map(word_of));
        self.last.clear();
        self.last.extend(ends.iter().map(|&d| number[d]));
    }

    /// The distinct words, ascending, `[U]`.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }
    /// For every node the index of its word in [`Self::words`], `[N]`.
    #[must_use]
    pub(crate) fn word_of(&self) -> &[usize] {
        &self.word_of
    }
    /// The nodes that read a word, in rising order. `word` is an index into [`Self::words`].
    #[must_use]
    pub(crate) fn nodes_of(&self, word: usize) -> &[usize] {
        self.by_word.of(word)
    }
    /// For every node its parent, `[N]`.
    #[must_use]
    pub(crate) fn parent(&self) -> &[usize] {
        &self.parent
    }
    /// The children of an inner node: a range of inner nodes, then a range of leaves.
    #[must_use]
    pub(crate) fn children(&self, parent: usize) -> &[Range<usize>; 2] {
        &self.children[parent]
    }
    /// The time steps, from the first.
    #[must_use]
    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }
    /// For every sequence the node of its last token, `[B]`.
    #[must_use]
    pub(crate) fn last(&self) -> &[usize] {
        &self.last
    }
    /// N: all nodes, the root included.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.parent.len()
    }
    /// P: the nodes with children, the root included.
    #[must_use]
    pub(crate) fn inner_nodes(&self) -> usize {
        self.children.len()
    }
    /// The tokens of the batch: the states that a padded or packed batch would compute.
    #[must_use]
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }
}

/// The levels of a tree, divided among threads: below a few shared levels, each part of the captions has its own
/// rows in every level. Captions that begin alike are neighbours, so the rows of a part are neighbours too.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    /// Level by level; from the first divided level on, the parts of a level one after another.
    levels: Vec<Level>,
    /// How many levels are shared.
    shared: usize,
    /// How many parts there are.
    count: usize,
    /// For each inner node, the number of nodes below it.
    below: Vec<usize>,
    /// Where the parts begin, as parents of the current level, and the end.
    borders: Vec<usize>,
}

/// Consecutive levels that all have the same number of parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    /// Level by level, the parts of a level one after another.
    pub(super) levels: &'a [Level],
    /// How many parts each level has.
    pub(super) parts: usize,
}

impl Run<'_> {
    /// How many levels the run has.
    pub(super) fn depth(self) -> usize {
        self.levels.len() / self.parts
    }
}

impl Parts {
    /// Divides a tree into `count` parts, or leaves all of it shared if no level is wide enough.
    pub(super) fn rebuild(&mut self, tree: &PrefixTree, count: usize) {
        /// Parents per part in the first divided level, so that parts of nearly equal size exist.
        const CHOICE: usize = 3;
        let Self { levels, shared, below, borders, .. } = self;
        let wide = |level: &Level| count > 1 && level.parents.len() >= CHOICE * count;
        *shared = tree.levels.iter().position(wide).unwrap_or(tree.levels.len());
        self.count = count;
        levels.clear();
        levels.extend_from_slice(&tree.levels[..*shared]);
        let Some(first) = tree.levels.get(*shared) else { return };

        // Children come after their parents.
        below.clear();
        below.resize(tree.inner_nodes(), 0);
        for node in (1..tree.nodes()).rev() {
            below[tree.parent[node]] += 1 + below.get(node).copied().unwrap_or(0);
        }
        let total: usize = below[first.parents.clone()].iter().sum();
        borders.clear();
        let mut before = 0;
        for parent in first.parents.clone() {
            if before * count >= total * borders.len() && borders.len() < count {
                borders.push(parent);
            }
            before += below[parent];
        }
        borders.resize(count + 1, first.parents.end);

        for level in &tree.levels[*shared..] {
            // Within a level, nodes are in the order of their parents.
            let start = |nodes: &Range<usize>, parent: usize| {
                nodes.start + tree.parent[nodes.clone()].partition_point(|&of| of < parent)
            };
            levels.extend(borders.windows(2).map(|part| Level {
                parents: part[0]..part[1],
                inner: start(&level.inner, part[0])..start(&level.inner, part[1]),
                leaves: start(&level.leaves, part[0])..start(&level.leaves, part[1]),
            }));
            for border in borders.iter_mut() {
                *border = start(&level.inner, *border);
            }
        }
    }

    /// The shared levels, then the divided ones.
    pub(super) fn runs(&self) -> [Run<'_>; 2] {
        let (shared, own) = self.levels.split_at(self.shared);
        [Run { levels: shared, parts: 1 }, Run { levels: own, parts: self.count.max(1) }]
    }
}

impl Draft {
    fn build<C: AsRef<[u32]>>(&mut self, sequences: &[C]) {
        let Self { nodes, sequences: order, path, ends, .. } = self;
        // In lexicographic order, sequences that share a prefix are neighbours. A sequence needs new nodes
        // only after the prefix that it shares with the previous one.
        order.clear();
        order.extend(0..sequences.len());
        order.sort_unstable_by_key(|&c| (sequences[c].as_ref(), c));

        nodes.clear();
        nodes.push(DraftNode { parent: 0, word: 0, depth: 0, inner: true });
        path.clear();
        path.push(0);
        ends.clear();
        ends.resize(sequences.len(), 0);
        let mut before: &[u32] = &[];
        for &c in &*order {
            let sequence = sequences[c].as_ref();
            let shared = sequence.iter().zip(before).take_while(|(a, b)| a == b).count();
            path.truncate(shared + 1);
            for &word in &sequence[shared..] {
                let parent = path[path.len() - 1];
                nodes[parent].inner = true;
                path.push(nodes.len());
                nodes.push(DraftNode { parent, word, depth: path.len() - 1, inner: false });
            }
            ends[c] = path[path.len() - 1];
            before = sequence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words from the root to a node.
    fn spell(tree: &PrefixTree, mut node: usize) -> Vec<u32> {
        let mut words = Vec::new();
        while node != 0 {
            words.push(tree.words()[tree.word_of()[node]]);
            node = tree.parent()[node];
        }
        words.reverse();
        words
    }

    fn example() -> Vec<Vec<u32>> {
        vec![vec![1, 5, 6, 7, 2], vec![1, 5, 6, 9, 2], vec![1, 5, 8, 2]]
    }

    #[test]
    fn the_example_of_the_text() {
        let tree = PrefixTree::new(&example());
        assert_eq!((tree.tokens(), tree.nodes() - 1, tree.inner_nodes()), (14, 9, 7));
        assert_eq!(tree.words(), [1, 2, 5, 6, 7, 8, 9]);
        let level = &tree.levels()[2];
        assert_eq!((level.parents.len(), level.inner.len(), level.leaves.len()), (1, 2, 0));
    }

    #[test]
    fn every_sequence_can_be_read_back() {
        let mut sequences = example();
        sequences.push(vec![1, 5]); // a prefix of others ends at an inner node
        sequences.push(vec![1, 5, 8, 2]); // a repeated sequence
        sequences.push(vec![]); // an empty one
        sequences.push(vec![1, 2]);
        let tree = PrefixTree::new(&sequences);
        for (sequence, &node) in sequences.iter().zip(tree.last()) {
            assert_eq!(&spell(&tree, node), sequence);
        }
    }

    #[test]
    fn numbering_keeps_levels_parents_and_children_contiguous() {
        let tree = PrefixTree::new(&example());
        let mut seen = vec![0; tree.nodes()];
        for level in tree.levels() {
            for node in level.inner.clone().chain(level.leaves.clone()) {
                seen[node] += 1;
                assert!(level.parents.contains(&tree.parent()[node]), "node {node}");
                let [inner, leaves] = tree.children(tree.parent()[node]);
                assert!(inner.contains(&node) || leaves.contains(&node), "node {node}");
            }
        }
        assert_eq!(seen[0], 0, "the root is in no level");
        assert!(seen[1..].iter().all(|&n| n == 1), "every other node is in one level");
        let children: usize = (0..tree.inner_nodes()).flat_map(|p| tree.children(p).clone()).map(|r| r.len()).sum();
        assert_eq!(children, tree.nodes() - 1);
    }

    #[test]
    fn a_tree_built_in_the_memory_of_another_is_the_same() {
        let mut tree = PrefixTree::new(&[vec![9, 8, 7, 6, 5, 4, 3], vec![9, 1], vec![]]);
        tree.rebuild(&example());
        let fresh = PrefixTree::new(&example());
        assert_eq!(format!("{tree:?}"), format!("{fresh:?}"));
    }

    #[test]
    fn nodes_by_word_are_all_nodes_once() {
        let tree = PrefixTree::new(&example());
        let mut nodes: Vec<usize> = Vec::new();
        for word in 0..tree.words().len() {
            assert!(tree.nodes_of(word).iter().all(|&node| tree.word_of()[node] == word));
            nodes.extend(tree.nodes_of(word));
        }
        nodes.sort_unstable();
        assert_eq!(nodes, (1..tree.nodes()).collect::<Vec<_>>());
    }

    #[test]
    fn the_parts_of_every_level_make_up_the_level() {
        let sequences: Vec<Vec<u32>> =
            (0..300u32).map(|i| vec![1, i % 5, i / 5 % 7, i % 11, i / 3 % 13, 2][..=i as usize % 6].to_vec()).collect();
        let tree = PrefixTree::new(&sequences);
        let mut parts = Parts::default();
        for count in [1, 2, 3, 8, 1000] {
            parts.rebuild(&tree, count);
            let [shared, own] = parts.runs();
            assert_eq!(own.levels.is_empty(), count == 1 || count == 1000, "{count}");
            let mut found = shared.levels.to_vec();
            for level in own.levels.chunks(count) {
                let (first, last) = (&level[0], &level[count - 1]);
                for (one, next) in level.iter().zip(&level[1..]) {
                    assert_eq!(one.parents.end, next.parents.start);
                    assert_eq!((one.inner.end, one.leaves.end), (next.inner.start, next.leaves.start));
                }
                for part in level {
                    let parents: Vec<usize> =
                        part.inner.clone().chain(part.leaves.clone()).map(|node| tree.parent()[node]).collect();
                    assert!(parents.iter().all(|parent| part.parents.contains(parent)));
                }
                found.push(Level {
                    parents: first.parents.start..last.parents.end,
                    inner: first.inner.start..last.inner.end,
                    leaves: first.leaves.start..last.leaves.end,
                });
            }
            assert_eq!(found, tree.levels());
        }
        // Each part has about its share of the work.
        parts.rebuild(&tree, 3);
        let nodes = |part: usize| -> usize {
            parts.runs()[1].levels.iter().skip(part).step_by(3).map(|l| l.inner.len() + l.leaves.len()).sum()
        };
        assert!((0..3).all(|part| nodes(part) * 4 > (nodes(0) + nodes(1) + nodes(2))), "{:?}", [0, 1, 2].map(nodes));
    }

    #[test]
    fn no_sequences_make_a_root_alone() {
        let tree = PrefixTree::new::<Vec<u32>>(&[]);
        assert_eq!((tree.nodes(), tree.levels().len()), (1, 0));
    }
}
