import AnomalyDetection

/// A detector's results on labelled scenarios.
struct BurstTally {
  struct Cell {
    var labels = 0
    var found = 0
    /// The minutes until the end of the minute that reported the burst.
    var delays: [Int] = []

    var recall: Double { labels == 0 ? 1 : Double(found) / Double(labels) }
    func delay(_ share: Double) -> Int {
      delays.isEmpty ? 0 : delays.sorted()[min(Int(share * Double(delays.count)), delays.count - 1)]
    }
    static func + (a: Cell, b: Cell) -> Cell {
      Cell(labels: a.labels + b.labels, found: a.found + b.found, delays: a.delays + b.delays)
    }
  }

  var cells: [BurstScenario.Kind: [BurstScenario.Anomaly: Cell]] = [:]
  var falseAlerts: [BurstScenario.Kind: Int] = [:]
  var repeats: [BurstScenario.Kind: Int] = [:]
  var minutes: [BurstScenario.Kind: Int] = [:]
  var examples: [String] = []

  mutating func judge(_ scenario: BurstScenario, alerts: [Burst]) {
    minutes[scenario.kind, default: 0] += scenario.minutes
    var found = Set<Int>()
    for alert in alerts {
      let t = Int(alert.minute) - scenario.origin
      guard
        let index = scenario.labels.firstIndex(where: {
          t >= $0.start && t < $0.start + $0.length + 5
        })
      else {
        if scenario.isFirstSightOfJob(t) { continue }
        falseAlerts[scenario.kind, default: 0] += 1
        examples.append("\(scenario.kind) seed \(scenario.seed) minute \(t) \(alert)")
        continue
      }
      let label = scenario.labels[index]
      guard found.insert(index).inserted else {
        repeats[scenario.kind, default: 0] += 1
        examples.append("REPEAT \(scenario.kind) seed \(scenario.seed) minute \(t): \(label)")
        continue
      }
      cells[scenario.kind, default: [:]][label.anomaly, default: Cell()].found += 1
      cells[scenario.kind]?[label.anomaly]?.delays.append(max(t + 1 - label.start - label.onset, 0))
    }
    for (index, label) in scenario.labels.enumerated() {
      if !found.contains(index) {
        examples.append("MISS \(scenario.kind) seed \(scenario.seed): \(label)")
      }
      cells[scenario.kind, default: [:]][label.anomaly, default: Cell()].labels += 1
    }
  }

  func total(_ anomaly: BurstScenario.Anomaly) -> Cell {
    cells.values.reduce(Cell()) { $0 + ($1[anomaly] ?? Cell()) }
  }

  /// The recall, the median delay, the delay of nine in ten, and the false alerts, by anomaly and
  /// in total.
  var figures: String {
    func line(_ name: String, _ cell: Cell) -> String {
      "\(name) \((cell.recall * 10_000).rounded() / 10_000) of \(cell.labels), p50 \(cell.delay(0.5)), p90 \(cell.delay(0.9))"
    }
    let kinds = BurstScenario.Kind.allCases.map {
      "\($0) \((perQuarter(falseAlerts[$0] ?? 0, minutes[$0] ?? 0) * 1_000).rounded() / 1_000)"
    }
    return
      (BurstScenario.Anomaly.allCases.map { line("\($0)", total($0)) } + [
        line("all", total), "false a license and quarter: \(falsePerQuarter)",
        kinds.joined(separator: ", "),
      ]).joined(separator: "; ")
  }

  var total: Cell { BurstScenario.Anomaly.allCases.reduce(Cell()) { $0 + total($1) } }

  func perQuarter(_ count: Int, _ minutes: Int) -> Double {
    minutes == 0 ? 0 : Double(count) * 91 * 1440 / Double(minutes)
  }

  var falsePerQuarter: Double {
    perQuarter(falseAlerts.values.reduce(0, +), minutes.values.reduce(0, +))
  }
}

extension BurstScenario {
  /// A nightly job may raise alerts on its first three nights, because nobody can know that it will
  /// come again.
  func isFirstSightOfJob(_ t: Int) -> Bool {
    guard let job = nightlyJob else { return false }
    let inJob = ((origin + t) % 1440 - job.minute + 1440) % 1440 < job.length + 2
    return inJob && t >= job.firstDay * 1440 && t < (job.firstDay + 3) * 1440
  }

  /// The alerts of a detector that receives each minute's calls together.
  func alerts() -> [Burst] {
    var tracker: BurstTracker?
    var alerts: [Burst] = []
    for (t, count) in counts().enumerated() where count > 0 {
      let minute = Int32(origin + t)
      if tracker == nil { tracker = BurstTracker(firstMinute: minute) }
      if let alert = tracker!.add(count, at: minute) { alerts.append(alert) }
    }
    return alerts
  }
}
