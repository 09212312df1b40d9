/// Which records of other partitions belong to a partition's dedupe window after its topic grew.
///
/// Partition p + n of a grown topic holds keys that were in partition p before. Its window
/// continues its parent's window, as if the parent's last records came before its own first one. A
/// parent may itself be the child of an earlier growth.
package enum WindowAncestry {
  /// The place at which one partition branched off another.
  package struct Parent: Equatable, Sendable {
    /// The first offset of the child that counts.
    package var firstOffset: Int64
    package var parent: Int32
    /// The parent's records before this offset are inherited.
    package var parentOffset: Int64

    package init(firstOffset: Int64, parent: Int32, parentOffset: Int64) {
      self.firstOffset = firstOffset
      self.parent = parent
      self.parentOffset = parentOffset
    }
  }

  /// A range of an ancestor's log, from (inclusive) to (exclusive).
  package struct Segment: Equatable, Sendable {
    package var partition: Int32
    package var from: Int64
    package var to: Int64
    /// The number to add to an offset of the ancestor to get the offset in the child's window. It
    /// may be negative.
    package var shift: Int64

    package init(partition: Int32, from: Int64, to: Int64, shift: Int64) {
      self.partition = partition
      self.from = from
      self.to = to
      self.shift = shift
    }
  }

  /// The segments that must be read before a partition goes on at `nextOffset`, oldest first. It is
  /// empty for partitions without a parent, and once a partition's own records fill the window.
  package static func segments(
    of partition: Int32, nextOffset: Int64, window: Int, parents: [Int32: Parent]
  ) -> [Segment] {
    let lowest = nextOffset - Int64(window)
    var segments: [Segment] = []
    var current = partition
    var shift: Int64 = 0
    // A topic that doubles has few generations. The bound protects against rows that contradict
    // each other.
    while segments.count < 32, let branch = parents[current], branch.firstOffset + shift > lowest {
      shift += branch.firstOffset - branch.parentOffset
      let oldest = max(lowest - shift, parents[branch.parent]?.firstOffset ?? 0)
      if oldest < branch.parentOffset {
        segments.append(
          Segment(partition: branch.parent, from: oldest, to: branch.parentOffset, shift: shift))
      }
      current = branch.parent
    }
    return segments.reversed()
  }
}
