import ArgumentParser
import Foundation
import FuzzTargets

/// The seeded driver of `deploy/fuzz`. The current input is in a file that is mapped into memory,
/// so that it remains when the process has died of it.
@main
struct Fuzz: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fuzz", abstract: "Try changed inputs on one target until the time is over.")

  @Argument(help: "The target.")
  var target: FuzzTarget

  @Option(help: "Folder with inputs to begin with.")
  var corpus: String

  @Option(help: "How long, in seconds.")
  var seconds: Double = 10

  @Option(help: "The same seed tries the same inputs.")
  var seed: UInt64

  @Option(help: "Where the input that is tried is kept.")
  var current: String

  func run() throws {
    let inputs = try FuzzCorpus.inputs(corpus)
    let kept = try KeptInput(current)
    var mutator = Mutator(seed: seed, corpus: inputs)
    var count = inputs.count
    for input in inputs { kept.run(input) { target.run(input) } }
    let end = Date(timeIntervalSinceNow: seconds)
    while Date() < end {
      for _ in 0..<200 {
        let input = mutator.next()
        kept.run(input) { target.run(input) }
      }
      count += 200
    }
    print("\(target.rawValue): \(count) inputs, seed \(seed)")
  }
}

extension FuzzTarget: ExpressibleByArgument {}

/// A file with the current input: eight bytes of length, then the input.
private struct KeptInput {
  private static let capacity = 1 << 20
  private let memory: UnsafeMutableRawBufferPointer

  init(_ path: String) throws {
    let file = open(path, O_RDWR | O_CREAT, 0o600)
    guard file >= 0, ftruncate(file, off_t(Self.capacity)) == 0,
      let start = mmap(nil, Self.capacity, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0),
      start != MAP_FAILED
    else { throw ValidationError("\(path) cannot be written") }
    close(file)
    memory = UnsafeMutableRawBufferPointer(start: start, count: Self.capacity)
  }

  func run(_ input: [UInt8], _ body: () -> Void) {
    memory.storeBytes(of: UInt64(input.count), as: UInt64.self)
    UnsafeMutableRawBufferPointer(rebasing: memory[8...]).copyBytes(from: input)
    body()
  }
}
