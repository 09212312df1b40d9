import Testing
import UsageAggregation

/// Scripts of events in one partition's life, with the machine's answers.
@Suite struct PartitionMachineTests {
  private let away = Standstill(.unreachable, "no leader")
  private let other = Standstill(.logDiffers, "another log")

  private func reading() -> PartitionMachine {
    var machine = PartitionMachine(assignedAt: 0)
    machine.looks(ticket: 1)
    let answer1 = machine.answered(ticket: 1, .fine, at: 0)
    #expect(answer1 == .claim)
    machine.claimed()
    return machine
  }

  @Test func `An assigned partition is looked at, claimed, and read`() {
    var machine = PartitionMachine(assignedAt: 5)
    #expect(machine.isDue(at: 5))
    machine.looks(ticket: 1)
    #expect(!machine.isDue(at: 1_000_000))
    let answer2 = machine.answered(ticket: 1, .fine, at: 6)
    #expect(answer2 == .claim)
    machine.claimed()
    #expect(machine.isReading)
    #expect(machine.isHeld)
    #expect(machine.standstill == nil)
  }

  @Test func `An answer to an older question changes nothing`() {
    var machine = PartitionMachine(assignedAt: 0)
    machine.looks(ticket: 1)
    machine.looks(ticket: 2)
    let before = machine
    let answer3 = machine.answered(ticket: 1, .stands(other), at: 1)
    #expect(answer3 == .ignore)
    #expect(machine == before)
  }

  @Test func `A partition that Kafka does not serve is tried again with growing pauses`() {
    var machine = PartitionMachine(assignedAt: 0)
    var pauses: [Int] = []
    var now = 0
    for ticket in 1...8 {
      machine.looks(ticket: ticket)
      let answer4 = machine.answered(ticket: ticket, .stands(away), at: now)
      #expect(answer4 == .wait)
      #expect(machine.standstill == away)
      let asked = now
      while !machine.isDue(at: now) { now += 50 }
      pauses.append(now - asked)
    }
    #expect(pauses == [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000])
    machine.looks(ticket: 9)
    let answer5 = machine.answered(ticket: 9, .fine, at: now)
    #expect(answer5 == .claim)
  }

  @Test func `A doubted partition goes on where it stands if its log is the same`() {
    var machine = reading()
    let wasRead = machine.doubted(at: 10)
    #expect(wasRead)
    #expect(!machine.isReading)
    #expect(machine.isHeld)
    #expect(machine.standstill == nil)
    let isStillRead = machine.doubted(at: 11)
    #expect(!isStillRead)
    #expect(machine.isDue(at: 10))
    machine.looks(ticket: 2)
    let answer6 = machine.answered(ticket: 2, .fine, at: 12)
    #expect(answer6 == .goOn)
    #expect(machine.isReading)
  }

  @Test func `A doubted partition is held while Kafka does not answer`() {
    var machine = reading()
    _ = machine.doubted(at: 10)
    machine.looks(ticket: 2)
    let answer7 = machine.answered(ticket: 2, .stands(away), at: 12)
    #expect(answer7 == .wait)
    #expect(machine.isHeld)
    machine.looks(ticket: 3)
    let answer8 = machine.answered(ticket: 3, .fine, at: 500)
    #expect(answer8 == .goOn)
    #expect(machine.standstill == nil)
  }

  @Test func `A doubted partition whose log is another one is dropped, and halts`() {
    var machine = reading()
    _ = machine.doubted(at: 10)
    machine.looks(ticket: 2)
    let answer9 = machine.answered(ticket: 2, .stands(other), at: 12)
    #expect(answer9 == .drop)
    #expect(!machine.isHeld)
    #expect(machine.standstill?.isHalt == true)
    // The partition must be claimed again. Reading must not simply go on.
    machine.storeChanged(at: 13)
    #expect(machine.isDue(at: 13))
    machine.looks(ticket: 3)
    let answer10 = machine.answered(ticket: 3, .fine, at: 14)
    #expect(answer10 == .claim)
  }

  @Test func `A halt stays reported while it is checked again, and the checks become rarer`() {
    var machine = reading()
    machine.stopped(other, at: 0)
    var now = 0
    var looks = 0
    while now < 600_000 {
      if machine.isDue(at: now) {
        looks += 1
        machine.looks(ticket: 100 + looks)
        #expect(machine.standstill == other)
        let answer11 = machine.answered(ticket: 100 + looks, .stands(other), at: now)
        #expect(answer11 == .wait)
      }
      #expect(machine.standstill == other)
      now += 500
    }
    #expect(looks < 16)
  }

  @Test func `Doubts that repeat without progress are spaced out`() {
    var machine = reading()
    _ = machine.doubted(at: 0)
    machine.looks(ticket: 2)
    let answer12 = machine.answered(ticket: 2, .fine, at: 1)
    #expect(answer12 == .goOn)
    _ = machine.doubted(at: 2)
    #expect(!machine.isDue(at: 2))
    #expect(machine.isDue(at: 600))
    machine.looks(ticket: 3)
    let answer13 = machine.answered(ticket: 3, .fine, at: 600)
    #expect(answer13 == .goOn)
    machine.progressed()
    _ = machine.doubted(at: 700)
    #expect(machine.isDue(at: 700))
  }
}

@Suite struct StandstillSummaryTests {
  @Test func `Partitions that stand still for one cause are reported once, with their number`() {
    let differs = Standstill(.logDiffers, "another log")
    let away = Standstill(.unreachable, "no leader")
    let summary = StandstillSummary(
      [(3, differs), (0, differs), (1, differs), (7, differs), (4, away)].map {
        (partition: Int32($0.0), standstill: $0.1)
      })
    #expect(summary.causes.count == 2)
    #expect(summary.causes[.logDiffers]?.partitions == [0, 1, 3, 7])
    #expect(summary.sentence(.logDiffers) == "4 partitions, the first: another log")
    #expect(summary.sentence(.unreachable) == "no leader")
    #expect(StandstillSummary.name([0, 1, 3, 7]) == "partitions 0-1, 3, 7")
    #expect(StandstillSummary.name([4]) == "partition 4")
  }
}
