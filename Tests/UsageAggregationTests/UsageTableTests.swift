import EventCodec
import Metering
import MeteringTestKit
import Testing
import UsageAggregation

/// A row of the table, or a cell of one, in plain values.
struct UsageRow: Hashable {
  var license: [UInt8]
  var meter: [UInt8]
  var hour: Int32
  var partition: Int32
  var kind: UsageCell.Kind?
  var value: [UInt8] = []
}

struct UsageSum: Equatable {
  var quantity: Int64 = 0
  var events: Int64 = 0
  var first: Int64 = .max
  var last: Int64 = .min
}

extension UsageTable {
  /// The groups (kind nil) and the cells. Traps if a row appears twice.
  func rows() -> [UsageRow: UsageSum] {
    var rows: [UsageRow: UsageSum] = [:]
    forEachGroup { group, license, meter, address in
      var row = UsageRow(
        license: Array(license.buffer), meter: Array(meter.buffer), hour: group.hour,
        partition: group.partition)
      let sum = UsageSum(
        quantity: group.quantity, events: group.eventCount, first: group.firstOffset,
        last: group.lastOffset)
      let other = rows.updateValue(sum, forKey: row)
      precondition(other == nil, "a group stands twice")
      forEachCell(of: address) { cell, value in
        row.kind = cell.kind
        row.value = cell.kind == .minute ? [cell.minute] : Array(value.buffer)
        let sum = UsageSum(
          quantity: cell.quantity, events: Int64(cell.eventCount), first: 0, last: 0)
        let other = rows.updateValue(sum, forKey: row)
        precondition(other == nil, "a cell stands twice")
      }
    }
    return rows
  }
}

@Suite("The table of usage")
struct UsageTableTests {
  private struct Choices {
    let store = ByteStore()
    let licenses: [Text]
    let meters: [Text]
    let values: [Text]

    init(licenses: Int) {
      let store = store
      self.licenses = (0..<licenses).map {
        store.text(String(repeating: "l", count: $0 % 30) + "\($0)")
      }
      meters = [.absent, store.text("api_calls"), store.text("seats"), store.text("seat")]
      values =
        [.absent, .absent] + (0..<40).map { store.text("v\($0).example") }
        + [store.text(String(repeating: "é", count: 128))]
    }
  }

  private func fill(
    _ table: inout UsageTable, _ choices: Choices, _ events: Int, _ random: inout SeededRandom
  ) -> [UsageRow: UsageSum] {
    var model: [UsageRow: UsageSum] = [:]
    for offset in 0..<Int64(events) {
      var event = DecodedEvent()
      event.subject = random.pick(choices.licenses)
      event.meter = random.pick(choices.meters)
      event.domain = random.pick(choices.values)
      event.feature = random.pick(choices.values)
      event.quantity = random.pick([0, 1, 1, 5, 1_000_000_000])
      let hour = Int32.random(in: -1...2, using: &random)
      let minute = UInt8.random(in: 0..<60, using: &random)
      let partition = Int32.random(in: 0..<3, using: &random)
      let hash = table.groupHash(event, hour: hour, partition: partition)
      _ = table.touch(hash)
      let isAdded = table.add(
        event, groupHash: hash, hour: hour, minute: minute, partition: partition, offset: offset)
      expect(isAdded)

      let meter = event.meter.isAbsent ? bytes("api_calls") : Array(event.meter.buffer)
      var row = UsageRow(
        license: Array(event.subject.buffer), meter: meter, hour: hour, partition: partition)
      var sum = model[row] ?? UsageSum()
      sum.quantity += event.quantity
      sum.events += 1
      sum.first = min(sum.first, offset)
      sum.last = max(sum.last, offset)
      model[row] = sum
      let cells: [(UsageCell.Kind, [UInt8]?)] = [
        (.minute, [minute]), (.domain, event.domain.isAbsent ? nil : Array(event.domain.buffer)),
        (.feature, event.feature.isAbsent ? nil : Array(event.feature.buffer)),
      ]
      for case (let kind, let value?) in cells {
        row.kind = kind
        row.value = value
        let sum = model[row] ?? UsageSum(first: 0, last: 0)
        model[row] = UsageSum(
          quantity: sum.quantity + event.quantity, events: sum.events + 1, first: 0, last: 0)
      }
    }
    return model
  }

  @Test
  func `A group keeps the trace of its last event that had one, until it is emptied`() {
    let store = ByteStore()
    var table = UsageTable(hash: fixedHash)
    func add(
      _ license: String, _ span: String?, at offset: Int64, to table: inout UsageTable
    ) {
      var event = DecodedEvent()
      event.subject = store.text(license)
      if let span {
        event.traceparent = store.text("00-4bf92f3577b34da6a3ce929d0e0e4736-\(span)-01")
      }
      let hash = table.groupHash(event, hour: 1, partition: 0)
      expect(
        table.add(event, groupHash: hash, hour: 1, minute: 0, partition: 0, offset: offset))
    }
    func spans(_ table: borrowing UsageTable) -> [String: String?] {
      var spans: [String: String?] = [:]
      table.forEachGroup { _, license, _, address in
        spans[license.string] = .some(table.trace(of: address)?.spanIDText)
      }
      return spans
    }
    for round in 0..<2 {
      add("none", nil, at: 0, to: &table)
      add("last", "00f067aa0ba902b7", at: 1, to: &table)
      add("last", "00f067aa0ba902b8", at: 2, to: &table)
      add("last", nil, at: 3, to: &table)
      add("other", "00f067aa0ba902b9", at: 4, to: &table)
      expect(
        spans(table) == ["none": nil, "last": "00f067aa0ba902b8", "other": "00f067aa0ba902b9"])
      expect(table.tracedGroupCount == 2, "round \(round)")
      table.reset()
      expect(table.tracedGroupCount == 0)
    }
  }

  @Test("Sums are those of a dictionary, through growth and reuse", arguments: [1, 10, 3_000])
  func sums(_ licenses: Int) {
    var random = SeededRandom(of: "sums(\(licenses))")
    let choices = Choices(licenses: licenses)
    var table = UsageTable(hash: fixedHash)
    for events in [20_000, 500, 0] {
      let model = fill(&table, choices, events, &random)
      let rows = table.rows()
      expect(rows == model)
      expect(table.groupCount == model.keys.count { $0.kind == nil })
      expect(table.cellCount == model.keys.count { $0.kind != nil })
      expect(table.isEmpty == (events == 0))
      table.reset()
      expect(table.isEmpty && table.groupCount == 0 && table.cellCount == 0)
      expect(table.rows().isEmpty)
    }
  }

  @Test("The default meter is one meter, named or not")
  func defaultMeter() {
    let store = ByteStore()
    var table = UsageTable(hash: fixedHash)
    for meter in [.absent, store.text("api_calls"), .absent] {
      var event = DecodedEvent()
      event.subject = store.text("l")
      event.meter = meter
      let hash = table.groupHash(event, hour: 1, partition: 2)
      expect(table.add(event, groupHash: hash, hour: 1, minute: 3, partition: 2, offset: 4))
    }
    expect(table.groupCount == 1)
    expect(table.cellCount == 1)
  }

  @Test("Groups come in the order of their first events")
  func order() {
    let store = ByteStore()
    var table = UsageTable(hash: fixedHash)
    let names = ["c", "a", "b", "a", "c", "d"]
    for (offset, name) in names.enumerated() {
      var event = DecodedEvent()
      event.subject = store.text(name)
      let hash = table.groupHash(event, hour: 0, partition: 0)
      _ = table.add(event, groupHash: hash, hour: 0, minute: 0, partition: 0, offset: Int64(offset))
    }
    var found: [String] = []
    table.forEachGroup { _, license, _, _ in found.append(license.string) }
    expect(found == ["c", "a", "b", "d"])
  }

  @Test("A sum that does not fit 64 bits is refused and changes nothing")
  func overflow() {
    let store = ByteStore()
    var table = UsageTable(hash: fixedHash)
    func add(_ quantity: Int64, minute: UInt8, domain: Text = .absent) -> Bool {
      var event = DecodedEvent()
      event.subject = store.text("l")
      event.quantity = quantity
      event.domain = domain
      let hash = table.groupHash(event, hour: 0, partition: 0)
      return table.add(
        event, groupHash: hash, hour: 0, minute: minute, partition: 0, offset: Int64(minute))
    }
    expect(add(.max - 1, minute: 1))
    let before = table.rows()
    expect(!add(2, minute: 2, domain: store.text("d")))
    expect(table.rows() == before)
    expect(add(1, minute: 3))
    expect(!add(1, minute: 3))
    expect(add(0, minute: 4))
  }

  @Test("Groups whose hashes agree are told apart by their keys")
  func sameHash() {
    let store = ByteStore()
    var table = UsageTable(hash: fixedHash)
    for n in 0..<200 {
      var event = DecodedEvent()
      event.subject = store.text("l\(n % 20)")
      event.meter = store.text(n % 2 == 0 ? "a" : "b")
      let isAdded = table.add(
        event, groupHash: .max, hour: Int32(n % 3), minute: 0, partition: Int32(n % 5), offset: 0)
      expect(isAdded)
    }
    let rows = table.rows().filter { $0.key.kind == nil }
    expect(rows.count == 60)
    expect(rows.values.reduce(0) { $0 + $1.events } == 200)
  }

  @Test("The table is full before its memory ends, even with the largest events there are")
  func full() {
    let store = ByteStore()
    var table = UsageTable(hash: fixedHash)
    let license = store.copy([UInt8](repeating: 0x6C, count: 512))
    let value = store.text(String(repeating: "v", count: 256))
    let name = UnsafeMutableRawBufferPointer(mutating: license)
    var events = 0
    while !table.isFull {
      var event = DecodedEvent()
      name.storeBytes(of: UInt32(events), as: UInt32.self)
      event.subject = Text(
        base: license.baseAddress!.assumingMemoryBound(to: UInt8.self), count: 512)
      event.domain = value
      event.feature = value
      let hash = table.groupHash(event, hour: 0, partition: 0)
      guard
        table.add(event, groupHash: hash, hour: 0, minute: 0, partition: 0, offset: 0)
      else {
        Issue.record("refused")
        return
      }
      events += 1
    }
    expect(table.groupCount == events)
    expect(events > 200_000)
    table.reset()
    expect(!table.isFull)
  }
}
