import Foundation
import MeteringTestKit
import Testing

extension IntegrationTests {
  /// Runs `deploy/drill`: `pg_basebackup`, archived WAL, and both restores that follow.
  @Suite struct RestoreDrillTests {
    @Test func `Last night's backup counts on from the log, and WAL brings back what people did`()
      throws
    {
      let drill = try ChildProcess(
        "deploy/drill", ["--events", "500", "--programs", ChildProcess.productsFolder])
      // When it is asked to end, it ends the processes that it started.
      defer {
        if drill.isRunning {
          drill.signal(SIGTERM)
          drill.wait()
        }
      }
      try eventually("the end of the drill; so far: \(drill.output)", within: 400) {
        !drill.isRunning
      }
      let status = drill.wait()
      try eventually("all of its output") { drill.outputEnded }
      #expect(status == 0, "\(drill.output)")
      #expect(drill.output.contains("what people did is there"))
    }
  }
}
