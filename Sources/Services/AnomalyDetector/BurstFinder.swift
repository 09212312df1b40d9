import AnomalyDetection
import EventCodec
import ServiceRuntime
import SystemRandom
import UsageAggregation

/// Adds usage to the calls a minute of each license, and finds bursts.
///
/// The batch's table already holds sums by license and minute. A license that is called a thousand
/// times between two looks costs one addition here.
struct BurstFinder: TopicFinder {
  final class State: FinderState {
    fileprivate var table: BurstTable

    fileprivate init(_ settings: BurstTable.Settings, _ seed: UInt64) {
      table = BurstTable(settings: settings, seed: seed)
    }

    fileprivate init?(
      _ settings: BurstTable.Settings, _ seed: UInt64, _ bytes: UnsafeRawBufferPointer
    ) {
      guard let restored = BurstTable(settings: settings, seed: seed, bytes: bytes) else {
        return nil
      }
      table = restored
    }

    func stored() -> [UInt8] {
      var bytes: [UInt8] = []
      table.serialize(into: &bytes)
      return bytes
    }

    var bytes: Int { table.bytes }
    var licenseCount: Int { table.count }
  }

  let settings: BurstTable.Settings
  private var minutes: [(minute: Int32, calls: Int64)] = []
  private static let apiCalls: StaticString = "api_calls"

  init(settings: BurstTable.Settings) { self.settings = settings }

  func makeState() -> State { State(settings, SystemRandom.word()) }
  func restore(_ bytes: [UInt8]) -> State? {
    bytes.withUnsafeBytes { State(settings, SystemRandom.word(), $0) }
  }

  mutating func find(in batch: LogBatch, _ states: [Int32: State]) -> [Finding] {
    let now = WallClock.milliseconds
    // A minute ahead of the clock would make everything that follows look late.
    let newestMinute = now / 60_000 + 1
    var findings: [Finding] = []
    batch.table.forEachGroup { group, license, meter, address in
      guard let state = states[group.partition],
        meter.equals(
          UnsafeRawBufferPointer(
            start: Self.apiCalls.utf8Start, count: Self.apiCalls.utf8CodeUnitCount))
      else { return }
      minutes.removeAll(keepingCapacity: true)
      batch.table.forEachCell(of: address) { cell, _ in
        guard cell.kind == .minute else { return }
        let minute = min(Int64(group.hour) * 60 + Int64(cell.minute), newestMinute)
        minutes.append((Int32(clamping: minute), cell.quantity))
      }
      // Cells are in no order.
      if minutes.count > 1 { minutes.sort { $0.minute < $1.minute } }
      for (minute, calls) in minutes {
        guard let burst = state.table.add(license: license.buffer, minute: minute, calls: calls)
        else { continue }
        findings.append(
          Finding(
            burst, license: license.string,
            group: (group.partition, group.firstOffset, group.lastOffset),
            // A broker's clock that is ahead must not use up the budget of hours to come.
            recordedAt: min(batch.newestTimestamps[group.partition] ?? now, now),
            trace: batch.table.trace(of: address)))
      }
    }
    return findings
  }
}
