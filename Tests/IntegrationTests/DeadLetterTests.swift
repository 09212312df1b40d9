import Foundation
import KafkaTransport
import MeteringTestKit
import Testing

extension IntegrationTests {
  @Suite struct DeadLetterTests {
    /// A record with something wrong, and the reason that docs/event-validation.md gives for it.
    static func garbage(_ n: Int, _ event: UsageEventText) -> (
      key: String?, value: [UInt8]?, reason: String
    ) {
      let key = event.subject
      func changed(_ name: String, _ json: String?) -> [UInt8] {
        Array(event.json(changing: [name: json]).utf8)
      }
      switch n % 20 {
      case 0: return (key, Array("\(event.json())x".utf8), "not_json")
      case 1: return (key, [0xC3, 0x28] + Array(event.id.utf8), "not_json")
      case 2: return (key, nil, "tombstone")
      case 3: return (key, changed("specversion", #""0.3""#), "not_cloudevent")
      case 4: return (key, changed("type", #""license.unknown""#), "wrong_type")
      case 5: return (key, changed("subject", "null"), "no_subject")
      case 6: return (key, changed("subject", #""a\u0000b""#), "nul_in_text")
      case 7: return (key, changed("source", #""\ud800""#), "bad_text")
      case 8: return (key, changed("time", #""yesterday""#), "bad_time")
      case 9: return (key, changed("data", "[]"), "bad_data")
      case 10: return (key, changed("data", #"{"meter":"Bad Meter"}"#), "bad_meter")
      case 11: return (key, changed("data", #"{"quantity":1e2}"#), "bad_quantity")
      case 12: return (key, changed("data", #"{"quantity":1000000001}"#), "bad_quantity")
      case 13: return (key + "x", Array(event.json().utf8), "key_mismatch")
      case 14:
        var early = event
        early.milliseconds = UsageEventText.now + 3 * 3_600_000
        return (key, Array(early.json().utf8), "too_far_ahead")
      case 15:
        var old = event
        old.milliseconds = UsageEventText.now - 36 * 86_400_000
        return (key, Array(old.json().utf8), "too_old")
      case 16:
        let long = String(repeating: "x", count: 70_000)
        return (key, changed("data", #"{"padding":"\#(long)"}"#), "over_size")
      case 17: return (key, changed("producer", "5"), "bad_sequence")
      case 18: return (nil, Array(event.json().utf8), "key_mismatch")
      default:
        let nested = String(repeating: "[", count: 600) + String(repeating: "]", count: 600)
        return (key, changed("nested", nested) + Array(nested.utf8), "not_json")
      }
    }

    @Test("A record of every kind of garbage becomes a dead letter, and its neighbors count")
    func everyReason() throws {
      let pipeline = try Pipeline(partitions: 2)
      let aggregator = try pipeline.start()
      var traffic = Traffic(pipeline.log)
      for n in 0..<20 {
        try traffic.send(3)
        var event = UsageEventText(id: "bad\(n)", subject: "lic_\(n % 7)")
        event.producer = "p1"
        event.sequence = Int64(n + 1)
        let bad = Self.garbage(n, event)
        try pipeline.log.send(key: bad.key, value: bad.value)
        try traffic.send(3)
      }
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))

      let found = try pipeline.database.rows(
        "select reason, count(*) from dead_letter group by 1 order by 1")
      var expected: [String: Int] = [:]
      for n in 0..<20 {
        expected[Self.garbage(n, UsageEventText(id: "x", subject: "y")).reason, default: 0] += 1
      }
      #expect(
        Dictionary(uniqueKeysWithValues: found.map { ($0[0]!, Int($0[1]!)!) }) == expected)
      #expect(aggregator.metric("meter_dead_letters_total") == 20)

      // Dead letters are copied to their topic, with headers that say why and where.
      try eventually("forwarded") {
        try pipeline.database.integer(
          "select count(*) from dead_letter where forwarded_at is null") == 0
      }
      var copies: Set<String> = []
      try pipeline.log.readAll(UsageLog.deadLetterTopic) { record in
        func header(_ name: String) -> String {
          record.header(named: name).map { String(decoding: $0, as: UTF8.self) } ?? "?"
        }
        #expect(header("topic") == UsageLog.topic)
        #expect(!header("detail").isEmpty && header("detail") != "?")
        copies.insert(
          "\(header("partition")) \(header("offset")) \(header("reason")) \(record.value?.count ?? -1) \(record.key?.count ?? -1)"
        )
      }
      let rows = try pipeline.database.rows(
        """
        select partition || ' ' || log_offset || ' ' || reason || ' ' || coalesce(length(payload), -1)
          || ' ' || coalesce(length(record_key), -1) from dead_letter
        """)
      #expect(copies == Set(rows.map { $0[0]! }))
    }

    @Test("A requeued dead letter counts once, however often it is sent")
    func requeue() throws {
      let pipeline = try Pipeline(partitions: 2)
      var aggregator = try pipeline.start()
      var traffic = Traffic(pipeline.log)
      // The event is too old for now. Its import is registered later.
      var event = UsageEventText(id: "late", subject: "lic_1")
      event.milliseconds -= 60 * 86_400_000
      event.quantity = 17
      event.importBatch = "batch-1"
      try pipeline.log.send(event)
      try traffic.send(20)
      try pipeline.waitUntilCounted()
      let place = try #require(
        try pipeline.database.rows(
          "select log_epoch || '/' || topic || '/' || partition || '/' || log_offset from dead_letter where reason = 'too_old'"
        ).first?[0])

      func requeue() throws {
        try pipeline.log.send(
          key: event.subject, value: Array(event.json().utf8),
          headers: [("dead-letter", Array(place.utf8))])
      }
      // The event is sent before it can be valid, so it becomes a dead letter again.
      try requeue()
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
      try pipeline.database.execute(
        """
        insert into import_batch (batch, file_hash, file_name, format, oldest_time, producer)
        values ('batch-1', 'hash', 'file', 'combined', now() - interval '90 days', 'p')
        """)
      traffic.truth.count(event)
      // It is sent twice in one flush, once in a later one, and once to another process.
      try requeue()
      try requeue()
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
      try requeue()
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(aggregator)
      aggregator = try pipeline.start()
      try requeue()
      try traffic.send(20)
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
      #expect(
        try pipeline.database.integer(
          "select count(*) from dead_letter where counted_at is not null") == 1)
      try Meterctl.expectReconciled(pipeline)
    }

    @Test("A dead letter that was sent again with its key mended counts once, and reconcile agrees")
    func requeueMended() throws {
      let pipeline = try Pipeline(partitions: 2)
      try pipeline.start()
      var traffic = Traffic(pipeline.log)
      try traffic.send(20)
      var event = UsageEventText(id: "mended", subject: "lic_1")
      event.domain = "d1.example.com"
      event.producer = "p1"
      event.sequence = 1
      try pipeline.log.send(key: "lic_2", value: Array(event.json().utf8), partition: 0)
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
      let place = try #require(
        try pipeline.database.rows(
          "select log_epoch || '/' || topic || '/' || partition || '/' || log_offset from dead_letter where reason = 'key_mismatch'"
        ).first?[0])
      traffic.truth.count(event)
      for _ in 0..<2 {
        try pipeline.log.send(
          key: event.subject, value: Array(event.json().utf8), partition: 1,
          headers: [("dead-letter", Array(place.utf8))])
        try traffic.send(10)
        try pipeline.waitUntilCounted()
        expectNone(try traffic.truth.differences(pipeline.database))
      }
      try Meterctl.expectReconciled(pipeline)
    }

    @Test("A header that no dead letter confirms changes nothing, and reconcile agrees")
    func forgedHeaders() throws {
      let pipeline = try Pipeline(partitions: 1)
      try pipeline.start()
      var traffic = Traffic(pipeline.log)
      try traffic.send(5)
      var old = UsageEventText(id: "old", subject: "lic_1")
      old.milliseconds -= 60 * 86_400_000
      try pipeline.log.send(old)
      try pipeline.waitUntilCounted()
      let place = try #require(
        try pipeline.database.rows(
          "select log_epoch || '/' || topic || '/' || partition || '/' || log_offset from dead_letter"
        ).first?[0])
      let forged = [
        "true", "", "1/\(UsageLog.topic)/0/0", "1/\(UsageLog.topic)/0/999999", "1/a\u{0}b/0/0",
        place,
        "+\(place)", "9/\(UsageLog.topic)/0/5", String(repeating: "9/", count: 40_000),
      ]
      for round in 0..<2 {
        for (n, header) in forged.enumerated() {
          var event = UsageEventText(id: "forged-\(n)", subject: "lic_\(n)")
          event.quantity = 3
          // The second time they are duplicates, whatever their headers claim.
          if round == 0 { traffic.truth.count(event) }
          try pipeline.log.send(
            key: event.subject, value: Array(event.json().utf8),
            headers: [("dead-letter", Array(header.utf8))])
        }
      }
      try traffic.send(5)
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))
      #expect(
        try pipeline.database.integer(
          "select count(*) from dead_letter where counted_at is not null") == 0)
      try Meterctl.expectReconciled(pipeline)
    }

    @Test("Data in base64 counts in the tables as in the recount, and bytes of another kind do not")
    func dataInBase64() throws {
      let pipeline = try Pipeline(partitions: 1)
      try pipeline.start()
      var traffic = Traffic(pipeline.log)
      try traffic.send(5)
      let event = UsageEventText(id: "bytes", subject: "lic_1")
      let data = Data(#"{"meter":"exports","quantity":41}"#.utf8).base64EncodedString()
      func send(_ id: String, _ changes: [String: String?]) throws {
        var members = changes
        members["id"] = "\"\(id)\""
        try pipeline.log.send(
          key: event.subject, value: Array(event.json(changing: members).utf8))
      }
      let encoded = "\"\(data)\""
      try send("b1", ["data": nil, "data_base64": encoded])
      try send("b2", ["data": nil, "data_base64": encoded, "datacontenttype": #""text/x+json""#])
      try send("both", ["data_base64": encoded])
      try send("xml", ["data": nil, "data_base64": encoded, "datacontenttype": #""text/xml""#])
      try send("cut", ["data": nil, "data_base64": #""e30""#])
      try pipeline.waitUntilCounted()
      #expect(
        try pipeline.database.integer(
          "select quantity from usage_by_day where license_id = 'lic_1' and meter = 'exports'")
          == 82)
      #expect(
        try pipeline.database.integer(
          "select count(*) from dead_letter where reason = 'bad_data'") == 3)
      try Meterctl.expectReconciled(pipeline)
    }

    @Test("A dead letter that is too large for its topic is copied without its value")
    func tooLargeToForward() throws {
      let pipeline = try Pipeline(partitions: 1)
      try pipeline.start(kafka: ["message.max.bytes": "2000"])
      try pipeline.log.send(key: "lic_1", value: Array("small".utf8))
      try pipeline.log.send(key: "lic_1", value: [UInt8](repeating: 0x78, count: 5_000))
      try pipeline.waitUntilCounted()
      try eventually("forwarded") {
        try pipeline.database.integer(
          "select count(*) from dead_letter where forwarded_at is null") == 0
      }
      var sizes: [Int] = []
      try pipeline.log.readAll(UsageLog.deadLetterTopic) { record in
        sizes.append(record.value?.count ?? -1)
        #expect((record.header(named: "omitted") != nil) == (record.value == nil))
      }
      #expect(sizes.sorted() == [-1, 5])
      #expect(
        try pipeline.database.integer("select max(length(payload)) from dead_letter") == 5_000)
    }

    @Test("A copy that Kafka refused is not marked as forwarded, and is tried again")
    func refusedCopies() throws {
      let pipeline = try Pipeline(partitions: 1)
      // This is too small for any copy, even for one without its value.
      let first = try pipeline.start(kafka: ["message.max.bytes": "1000"])
      try pipeline.log.send(
        key: "lic_1", value: Array(#"{"x":"\#(String(repeating: "y", count: 3_000))"}"#.utf8))
      try pipeline.waitUntilCounted()
      try pipeline.database.execute(
        "update dead_letter set detail = repeat('d', 2000), forward_after = null, forwarded_at = null"
      )
      try eventually("a refusal") {
        try pipeline.database.integer(
          "select count(*) from dead_letter where forward_attempts > 0 and forwarded_at is null")
          == 1
      }
      try pipeline.expectStops(first)
      try pipeline.database.execute("update dead_letter set forward_after = now()")
      try pipeline.start()
      try eventually("forwarded") {
        try pipeline.database.integer(
          "select count(*) from dead_letter where forwarded_at is not null") == 1
      }
    }

    @Test("meterctl requeues what can be valid now, once")
    func requeueByMeterctl() throws {
      let pipeline = try Pipeline(partitions: 2)
      try pipeline.start()
      var traffic = Traffic(pipeline.log)
      var event = UsageEventText(id: "late", subject: "lic_1")
      event.milliseconds -= 60 * 86_400_000
      event.importBatch = "batch-1"
      try pipeline.log.send(event)
      try pipeline.waitUntilCounted()
      try pipeline.database.execute(
        """
        insert into import_batch (batch, file_hash, file_name, format, oldest_time, producer)
        values ('batch-1', 'hash', 'file', 'combined', now() - interval '90 days', 'p')
        """)
      traffic.truth.count(event)
      for _ in 0..<2 {
        let answer = try Meterctl.run(
          ["dead-letters", "requeue", "--reason", "too_old", "--yes"], pipeline)
        #expect(answer.exit == 0, "\(answer.output)")
        try pipeline.waitUntilCounted()
        expectNone(try traffic.truth.differences(pipeline.database))
      }
    }
  }
}
