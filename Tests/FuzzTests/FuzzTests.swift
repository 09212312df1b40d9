import Foundation
import FuzzTargets
import Testing

/// Runs for a moment what `deploy/fuzz` runs for as long as wanted. A trap ends the test process,
/// which is noticed.
@Suite struct FuzzTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().path + "/Corpus/"

  @Test(arguments: FuzzTarget.allCases)
  func `Every input of the corpus keeps its target's promise, and so do changed ones`(
    _ target: FuzzTarget
  ) throws {
    try #require(target.isAvailable)
    let corpus = try FuzzCorpus.inputs(Self.folder + target.rawValue)
    for input in corpus { target.run(input) }
    var mutator = Mutator(seed: 20_261_127, corpus: corpus)
    for _ in 0..<1_000 { target.run(mutator.next()) }
  }

  @Test func `The same seed makes the same inputs`() throws {
    let corpus = try FuzzCorpus.inputs(Self.folder + FuzzTarget.event.rawValue)
    var (first, second) = (Mutator(seed: 7, corpus: corpus), Mutator(seed: 7, corpus: corpus))
    for _ in 0..<100 { #expect(first.next() == second.next()) }
  }
}
