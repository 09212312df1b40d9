import EventCodec
import MeteringTestKit
import Testing
import UsageAggregation

@Suite("The sequences of producers")
struct ProducerSequencesTests {
  @Test("Sequences, dead letters and counts equal those of a dictionary, for many producers")
  func model() {
    var random = SeededRandom(of: "producers")
    let store = ByteStore()
    let names = (0..<200).map { store.text("producer-\($0)" + ($0 % 5 == 0 ? "é" : "")) }
    var loaded = ProducerState(name: Array(names[7].buffer))
    loaded.sequence = 50
    loaded.deadSequence = 60
    var producers = ProducerSequences([loaded], hash: fixedHash)
    var states: [Int: ProducerState] = [7: loaded]
    var changed: Set<Int> = []
    for step in 0..<30_000 {
      let n = random.chance(50) ? 7 : Int.random(in: 0..<names.count, using: &random)
      let sequence = Int64.random(in: 0...Int64(step / 100), using: &random)
      var state = states[n] ?? ProducerState(name: Array(names[n].buffer))
      let index = producers.index(of: names[n], at: Int64(step))
      state.lastOffset = Int64(step)
      changed.insert(n)
      if random.chance(30) {
        producers.noteDeadLetter(index, sequence: sequence)
        if sequence > max(state.deadSequence, state.sequence) {
          state.deadSequence = sequence
          state.deadLettered += 1
        }
      } else {
        let isResend = producers.observe(index, sequence: sequence)
        expect(isResend == (sequence <= state.sequence))
        state.sequence = max(state.sequence, sequence)
        if isResend || random.chance(10) {
          producers.noteDuplicate(index, isRepeated: !isResend)
          state.duplicates += 1
          if !isResend { state.repeated += 1 }
        } else {
          producers.noteCounted(index)
          state.counted += 1
        }
      }
      states[n] = state
      if random.chance(1) {
        let taken = producers.takeChanged()
        expect(taken.count == changed.count)
        for found in taken {
          let n = names.firstIndex { Array($0.buffer) == found.name }!
          expect(changed.contains(n))
          expect(describe(found) == describe(states[n]!))
        }
        // The counts are those since the last time.
        for n in changed {
          states[n]!.counted = 0
          states[n]!.duplicates = 0
          states[n]!.repeated = 0
          states[n]!.deadLettered = 0
        }
        changed = []
        expect(producers.takeChanged().isEmpty)
      }
    }
    expect(Set(producers.states.map(\.name)).count == producers.states.count)
  }

  @Test("The producer that was heard least recently makes room, in whatever order they were loaded")
  func bounded() {
    var random = SeededRandom(of: "bounded")
    let store = ByteStore()
    let names = (0..<40).map { store.text("producer-\($0)") }
    var heard: [[UInt8]: Int64] = [:]
    let loaded = (0..<20).map { n in
      var state = ProducerState(name: Array(names[n].buffer))
      state.lastOffset = Int64(n * 7 % 20)
      return state
    }
    for state in loaded where state.lastOffset >= 12 { heard[state.name] = state.lastOffset }
    var producers = ProducerSequences(
      loaded.shuffled(using: &random), hash: fixedHash, maximum: 8)
    for step in 0..<20_000 {
      let name = names[Int.random(in: 0..<names.count, using: &random)]
      let offset = Int64(100 + step)
      _ = producers.observe(producers.index(of: name, at: offset), sequence: offset)
      var gone: [UInt8]?
      if heard[Array(name.buffer)] == nil, heard.count == 8 {
        gone = heard.min { $0.value < $1.value }!.key
        heard[gone!] = nil
      }
      heard[Array(name.buffer)] = offset
      expect(Set(producers.states.map(\.name)) == Set(heard.keys))
      if let gone {
        expect(producers.forgottenCount == 1)
        let taken = producers.takeChanged()
        expect(taken.first?.name == gone && taken.first?.isForgotten == true)
        expect(taken.dropFirst().allSatisfy { !$0.isForgotten })
      } else {
        _ = producers.takeChanged()
      }
    }
  }

  @Test("An event that does not fit is one dead letter of its producer")
  func overflow() {
    let store = ByteStore()
    var producers = ProducerSequences([], hash: fixedHash)
    let index = producers.index(of: store.text("p"), at: 1)
    expect(!producers.observe(index, sequence: 3))
    producers.noteDeadLetter(index, sequence: 3)
    producers.noteOverflow(index, sequence: 3)
    producers.noteDeadLetter(index, sequence: 3)
    expect(producers.states[index].deadLettered == 1)
    expect(producers.states[index].deadSequence == 3)
  }

  private func describe(_ state: ProducerState) -> [Int64] {
    [
      state.lastOffset, state.sequence, state.deadSequence, state.counted, state.duplicates,
      state.repeated, state.deadLettered,
    ]
  }
}
