import ArgumentParser

@main
struct Benchmarks: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "Benchmarks",
    abstract:
      "Measures the pipeline beside bare loops and peers in the same run, and prints ratios.",
    subcommands: [
      Aggregate.self, Latency.self, Count.self, Detect.self, Webhooks.self, AlertLatency.self,
      Publish.self, Storage.self, Query.self, Validate.self,
    ])
}
