import Billing
import Testing

@Suite struct ProgressMachineTests {
  private typealias Stored = ProgressMachine.Stored

  private func rows(_ next: [Int64], epoch: Int32 = 1) -> [Int32: Stored] {
    Dictionary(
      uniqueKeysWithValues: next.enumerated().map {
        (Int32($0.offset), Stored(next: $0.element, epoch: epoch))
      })
  }

  @Test func `Everything is complete through a time once every partition has reached its end`() {
    var machine = ProgressMachine()
    machine.observe(at: 100, before: rows([5, 0]), ends: [8, 0])
    #expect(machine.advance(rows([7, 0]), halted: []) == nil)
    machine.observe(at: 200, before: rows([7, 0]), ends: [12, 0])
    #expect(machine.advance(rows([8, 0]), halted: []) == 100)
    #expect(machine.advance(rows([11, 0]), halted: []) == nil)
    #expect(machine.advance(rows([12, 0]), halted: []) == 200)
  }

  @Test func `Idle partitions move on with the time, and the newest observation counts`() {
    var machine = ProgressMachine()
    for time in 1...5 {
      machine.observe(at: Int64(time), before: rows([3, 3]), ends: [3, 3])
    }
    #expect(machine.advance(rows([3, 3]), halted: []) == 5)
    #expect(machine.advance(rows([3, 3]), halted: []) == nil)
  }

  @Test func `A suspended partition and a partition that was never counted hold the time up`() {
    var machine = ProgressMachine()
    machine.observe(at: 1, before: rows([3]), ends: [3, 4])
    #expect(machine.advance(rows([3]), halted: []) == nil)
    #expect(machine.advance(rows([3, 2]), halted: []) == nil)
    #expect(machine.advance(rows([3, 4]), halted: [1]) == nil)
    #expect(machine.advance(rows([3, 4]), halted: []) == 1)
    // A new and empty partition does not hold it up.
    machine.observe(at: 2, before: rows([3, 4]), ends: [3, 4, 0])
    #expect(machine.advance(rows([3, 4]), halted: []) == 2)
  }

  @Test func `Nothing is claimed across two logs`() {
    var machine = ProgressMachine()
    // A log that ends before the counted offset is another log.
    machine.observe(at: 1, before: rows([50]), ends: [10])
    #expect(machine.advance(rows([50]), halted: []) == nil)
    // A new epoch began after the observation.
    machine.observe(at: 2, before: rows([50]), ends: [60])
    #expect(machine.advance(rows([70], epoch: 2), halted: []) == nil)
    #expect(machine.advance(rows([70]), halted: []) == nil)
    // One partition does not answer.
    machine.observe(at: 3, before: rows([50, 1]), ends: [50, nil])
    #expect(machine.advance(rows([50, 1]), halted: []) == nil)
  }

  @Test func `A long lag takes bounded memory, and old observations are still found`() {
    var machine = ProgressMachine()
    for time in 1...100_000 {
      machine.observe(at: Int64(time), before: rows([0]), ends: [Int64(time)])
    }
    let found = machine.advance(rows([50_000]), halted: [])
    #expect(found.map { $0 <= 50_000 && $0 > 0 } ?? true)
    #expect(machine.advance(rows([100_000]), halted: []) == 100_000)
  }
}
