import HTTPListening
import Metering
import NIOCore
import NIOEmbedded
import Synchronization
import Testing

@Suite struct ConnectionTableTests {
  /// Notes whether the table asked its connection to make room.
  private final class Ear: ChannelInboundHandler {
    typealias InboundIn = NIOAny
    private(set) var isAsked = false

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      if event is ConnectionTable.MakeRoom { isAsked = true }
    }
  }

  private struct Guest {
    var entry: ConnectionTable.Entry
    var channel: EmbeddedChannel
    var ear: Ear
  }

  private func group(_ address: String) throws -> AddressGroup {
    AddressGroup(try #require(IPAddress(address)))
  }

  private func admit(_ table: ConnectionTable, _ address: String?) throws -> Guest {
    let ear = Ear()
    let channel = EmbeddedChannel(handler: ear)
    let entry = try table.admit(channel, address.map { try group($0) })
    return Guest(entry: entry, channel: channel, ear: ear)
  }

  @Test func `An address has its share, and an idle connection of its own gives way`() throws {
    let table = ConnectionTable(descriptors: 100, share: 2)
    let other = try admit(table, "203.0.113.9")
    let first = try admit(table, "203.0.113.1")
    let second = try admit(table, "203.0.113.1")
    first.entry.isBusy.store(true, ordering: .relaxed)
    _ = try admit(table, "203.0.113.1")
    #expect(second.ear.isAsked)
    #expect(!first.ear.isAsked && !other.ear.isAsked)
    #expect(table.statistics.closedForOthers == 1)
  }

  @Test
  func `An address whose connections all have a request under way is refused, others are not`()
    throws
  {
    let table = ConnectionTable(descriptors: 100, share: 2)
    for _ in 0..<2 {
      try admit(table, "203.0.113.1").entry.isBusy.store(true, ordering: .relaxed)
    }
    let refusal = #expect(throws: ConnectionTable.Refusal.self) {
      try admit(table, "203.0.113.1")
    }
    #expect(refusal == .address)
    #expect(table.statistics.refused == 1)
    _ = try admit(table, "203.0.113.2")
  }

  @Test func `IPv6 addresses of one /64 have one share, and another one has its own`() throws {
    let table = ConnectionTable(descriptors: 100, share: 1)
    let first = try admit(table, "2001:db8:0:1::1")
    _ = try admit(table, "2001:db8:0:2::1")
    #expect(!first.ear.isAsked)
    _ = try admit(table, "2001:db8:0:1:ffff::2")
    #expect(first.ear.isAsked)
    // The first eight bytes of an IPv6 address are not mistaken for an IPv4 one.
    #expect(try group("::") != group("0.0.0.0"))
    #expect(try group("203.0.113.1") != group("203.0.113.2"))
  }

  @Test func `When all places are taken an idle connection gives way, whosever it is`() throws {
    let table = ConnectionTable(descriptors: 4, share: nil)
    #expect(table.maximum == 3 && table.ceiling == 4)
    let guests = try (1...3).map { try admit(table, "203.0.113.\($0)") }
    guests[0].entry.isBusy.store(true, ordering: .relaxed)
    guests[1].entry.isBusy.store(true, ordering: .relaxed)
    let new = try admit(table, "203.0.113.8")
    #expect(guests.map(\.ear.isAsked) == [false, false, true])
    new.entry.isBusy.store(true, ordering: .relaxed)
    let refusal = #expect(throws: ConnectionTable.Refusal.self) {
      try admit(table, "203.0.113.7")
    }
    #expect(refusal == .all)
  }

  @Test func `A connection that was used lately outlives one that was not`() throws {
    let table = ConnectionTable(descriptors: 100, share: 3)
    let guests = try (0..<3).map { _ in try admit(table, "203.0.113.1") }
    // All of them were used. One round of the clock hand takes the marks away.
    _ = try admit(table, "203.0.113.1")
    let left = guests.filter { !$0.ear.isAsked }
    #expect(left.count == 2)
    left[0].entry.wasUsed.store(true, ordering: .relaxed)
    left[1].entry.wasUsed.store(false, ordering: .relaxed)
    _ = try admit(table, "203.0.113.1")
    #expect(!left[0].ear.isAsked)
  }

  @Test func `A connection of a trusted proxy counts to no address`() throws {
    let table = ConnectionTable(descriptors: 100, share: 1)
    let guests = try (0..<5).map { _ in try admit(table, nil) }
    #expect(guests.allSatisfy { !$0.ear.isAsked })
  }

  @Test func `A place is free again when its connection has left, and leaving twice does nothing`()
    throws
  {
    let table = ConnectionTable(descriptors: 100, share: 1)
    for _ in 0..<50 {
      let guest = try admit(table, "203.0.113.1")
      guest.entry.isBusy.store(true, ordering: .relaxed)
      table.leave(guest.entry)
      table.leave(guest.entry)
    }
    #expect(table.statistics.refused == 0)
  }

  @Test func `Accepting stops while every descriptor is taken, and goes on when one is free`() {
    let table = ConnectionTable(descriptors: 2, share: nil)
    table.opened()
    #expect(table.mayAccept())
    table.opened()
    #expect(!table.mayAccept())
    #expect(table.closed())
    #expect(table.mayAccept())
    #expect(!table.closed())
  }
}
