import Foundation
import MeteringTestKit
import Testing

extension IntegrationTests {
  /// Runs `deploy/chaos` itself for a short time. `METER_TEST_SEED` repeats a run's schedule of
  /// faults.
  @Suite struct PipelineChaosTests {
    @Test func `The whole pipeline counts every event once, whatever is broken at random`() throws {
      let seed = SeededRandom.testSeed()
      print("pipeline chaos: METER_TEST_SEED=\(seed)")
      let chaos = try ChildProcess(
        "deploy/chaos",
        [
          "--duration", "30", "--rate", "30", "--seed", "\(seed)",
          "--programs", ChildProcess.productsFolder,
        ])
      // When it is asked to end, it ends the processes that it started.
      defer {
        if chaos.isRunning {
          chaos.signal(SIGTERM)
          chaos.wait()
        }
      }
      try eventually("the end of the run; so far: \(chaos.output.suffix(2_000))", within: 400) {
        !chaos.isRunning
      }
      let status = chaos.wait()
      try eventually("all of its output") { chaos.outputEnded }
      // Its output says that it kills, stops, cuts and fails over. The last line says whether
      // everything holds.
      #expect(status == 0 && chaos.output.contains("everything holds"), "\(chaos.output)")
      #expect(chaos.output.contains("topic growth"))
    }
  }
}
