import Billing
import Foundation
import KafkaTransport
import LogAudit
import MeteringTestKit
import PostgresStore
import Recount
import Testing

/// The events behind a number, through the code of `meterctl explain`.
@Suite(.serialized)
struct EventsTests {
  @Test func `A number leads to its events in the log, page by page and with duplicates`() throws {
    let log = try UsageLog(partitions: 2)
    let setup = try APISetup(environment: ["METER_KAFKA_BROKERS": log.brokers])
    try setup.addLicense("lic_1", customer: "cus_1")
    try setup.addToken("mtr_c1", scopes: "usage:read", customer: "cus_1")
    try setup.addToken("mtr_c2", scopes: "usage:read", customer: "cus_2")
    let aggregator = try ConsumerProcess(brokers: log.brokers, databaseURL: setup.database.url)
    for id in ["e1", "e2", "e1", "e3"] {
      try log.send(UsageEventText(id: id, subject: "lic_1"))
    }
    try log.send(key: "lic_1", value: Array(#"{"id":"broken-1""#.utf8))
    try log.waitUntilCounted(setup.database)

    let hour = UsageEventText.now / 3_600_000 * 3_600_000
    let range =
      "from=\(TimeText.write(hour - 3_600_000))&to=\(TimeText.write(hour + 7_200_000))"
    let path = "/v1/usage/events?license_id=lic_1&meter=api_calls&\(range)"
    var ids: [String] = []
    var statuses: [String] = []
    var next: String?
    repeat {
      let page = try setup.get(path + "&limit=2" + (next.map { "&cursor=\($0)" } ?? ""))
      #expect(page.status == 200, "\(page.body) \(setup.process.output.suffix(2_000))")
      #expect(page["matches"] == "1" && page.json["provable_from"] is String)
      ids += page.data.compactMap { $0["id"] as? String }
      statuses += page.data.compactMap { $0["status"] as? String }
      next = page.json["next"] as? String
    } while next != nil
    #expect(ids == ["e1", "e2", "e1", "e3"])
    #expect(statuses == ["counted", "counted", "duplicate", "counted"])
    let csv = try setup.get(path + "&format=csv")
    #expect(csv.body.components(separatedBy: "\r\n").count == 6, "\(csv.body)")
    #expect(try setup.get(path, token: "mtr_c1").status == 200)
    #expect(try setup.get(path, token: "mtr_c2").status == 404)
    #expect(try setup.get(path + "&cursor=x")["code"] == "bad_cursor")
    #expect(try setup.get("/v1/usage/events?license_id=lic_1").status == 400)

    let event = try setup.get("/v1/events/e1")
    #expect(event.status == 200 && event["status"] == "counted", "\(event.body)")
    let sightings = event.json["events"] as? [[String: Any]] ?? []
    #expect(sightings.map { $0["status"] as? String } == ["counted", "duplicate"])
    #expect(sightings.last?["duplicate_of_offset"] as? Int == sightings.first?["offset"] as? Int)
    #expect(try setup.get("/v1/events/e1?source=/other")["status"] == "not_found")
    let broken = try setup.get("/v1/events/broken-1")
    #expect(broken["status"] == "dead_letter", "\(broken.body)")
    let nowhere = try setup.get("/v1/events/e9")
    #expect(nowhere["status"] == "not_found" && (nowhere.json["searched"] as? [Any])?.count == 1)
    #expect(try setup.get("/v1/events/e1", token: "mtr_c2")["status"] == "not_found")

    // Once the log has another epoch, the events can no longer be read back.
    aggregator.process.killNow()
    try setup.database.execute("update consumer_offset set log_epoch = log_epoch + 1")
    let gone = try setup.get(path)
    #expect(gone.status == 410 && gone["code"] == "not_provable", "\(gone.body)")
  }

  @Test func `A dead letter that can be valid now is sent again by the API, and counts once`()
    throws
  {
    let log = try UsageLog(partitions: 2)
    let setup = try APISetup(environment: ["METER_KAFKA_BROKERS": log.brokers])
    try setup.addLicense("lic_1", customer: "cus_1")
    let aggregator = try ConsumerProcess(brokers: log.brokers, databaseURL: setup.database.url)
    // The event is too old until its import is registered.
    var event = UsageEventText(id: "late", subject: "lic_1")
    event.milliseconds -= 60 * 86_400_000
    event.quantity = 17
    event.importBatch = "batch-1"
    try log.send(event)
    try log.waitUntilCounted(setup.database)
    let found = try setup.get("/v1/dead-letters").data
    #expect(found.map { $0["reason"] as? String } == ["too_old"], "\(aggregator.process.output)")
    try setup.database.execute(
      """
      insert into import_batch (batch, file_hash, file_name, format, oldest_time, producer)
      values ('batch-1', 'hash', 'file', 'combined', now() - interval '90 days', 'p')
      """)
    func requeue(
      _ body: String = #"{"reason":"too_old"}"#, key: String? = nil
    ) throws -> APISetup.Answer {
      try setup.request(
        "POST", "/v1/dead-letters/requeue", body: body,
        headers: key.map { ["Idempotency-Key": $0] } ?? [:])
    }
    let place = try #require(found.first)
    let one =
      #"{"topic":"license.usage.v1","partition":\#(place["partition"] ?? ""),"#
      + #""log_offset":\#(place["log_offset"] ?? "")}"#
    let sent = try requeue(one, key: "k")
    #expect(sent.status == 200 && sent["requeued"] == "1", "\(sent.body)")
    let ends = try log.ends()
    let repeated = try requeue(one, key: "k")
    #expect(repeated.body == sent.body && repeated.headers["idempotent-replayed"] == "true")
    #expect(try log.ends() == ends)
    let other = try requeue(key: "k")
    #expect(other.status == 422 && other["code"] == "idempotency_mismatch", "\(other.body)")
    try log.waitUntilCounted(setup.database)
    try eventually("it counts") {
      try setup.database.integer("select sum(quantity) from usage_by_day") == 17
    }
    // It was already sent and already counts.
    #expect(try requeue()["requeued"] == "0")
    let counted = try setup.database.rows(
      "select requeued_at is not null, counted_at is not null from dead_letter")
    #expect(counted == [["t", "t"]])
    let audited = try setup.get("/v1/audit?resource_kind=dead_letter").data
    #expect(!audited.isEmpty)
  }

  @Test func `The search says that nothing was found, and shows an event with its place`() throws {
    let log = try UsageLog(partitions: 1)
    let setup = try APISetup(environment: ["METER_KAFKA_BROKERS": log.brokers])
    let aggregator = try ConsumerProcess(brokers: log.brokers, databaseURL: setup.database.url)
    try log.send(UsageEventText(id: "e1", subject: "lic_1"))
    try log.waitUntilCounted(setup.database)
    let reader = try PageReader(setup)
    let nothing = try reader.get("/search?q=cus_nope").body
    #expect(nothing.contains("Nothing has this id."), "\(nothing)")
    #expect(!nothing.contains("not_found") && !nothing.contains(">Found<"))
    let found = try reader.get("/search?q=e1")
    #expect(found.status == 303 && found.headers["location"] == "/licenses/lic_1", "\(found.body)")
    withExtendedLifetime(aggregator) {}
  }

  @Test func `A CSV has all events behind a number, however many there are`() throws {
    let log = try UsageLog(partitions: 1)
    let setup = try APISetup(environment: ["METER_KAFKA_BROKERS": log.brokers])
    let aggregator = try ConsumerProcess(brokers: log.brokers, databaseURL: setup.database.url)
    // The log is read once for each 10,000 events.
    let ids = (0..<10_050).map { "e\($0)" }
    for id in ids { try log.send(UsageEventText(id: id, subject: "lic_1")) }
    try log.waitUntilCounted(setup.database)
    let hour = UsageEventText.now / 3_600_000 * 3_600_000
    let path =
      "/v1/usage/events?license_id=lic_1&format=csv"
      + "&from=\(TimeText.write(hour - 3_600_000))&to=\(TimeText.write(hour + 7_200_000))"
    func idsOfCSV(_ path: String) throws -> [String] {
      let answer = try setup.get(path)
      #expect(answer.status == 200 && answer.headers["transfer-encoding"] == "chunked")
      let lines = answer.body.components(separatedBy: "\r\n").dropLast()
      #expect(lines.first?.hasPrefix("log_epoch,partition,offset,id,") == true)
      return lines.dropFirst().map { $0.components(separatedBy: ",")[3] }
    }
    #expect(try idsOfCSV(path) == ids, "\(aggregator.process.output.suffix(2_000))")
    #expect(try idsOfCSV(path + "&limit=1000") == Array(ids.prefix(1_000)))
    let page = try setup.get(path.replacing("&format=csv", with: "") + "&limit=1000")
    let next = try #require(page.json["next"] as? String)
    #expect(try idsOfCSV(path + "&cursor=\(next)") == Array(ids.dropFirst(1_000)))
  }

  @Test func `A range that the stored rows cannot answer is refused as for usage`() throws {
    let setup = try APISetup()
    func refused(_ from: String, _ to: String) throws -> APISetup.Answer {
      let answer = try setup.get("/v1/usage/events?license_id=a&from=\(from)&to=\(to)")
      #expect(answer.status == 400 && answer["code"] == "range_not_answerable", "\(answer.body)")
      return answer
    }
    let hour = UsageEventText.now / 3_600_000 * 3_600_000
    let now = try refused(TimeText.write(hour + 30_000), TimeText.write(hour + 3_600_000))
    #expect(
      now.json["nearest_from"] as? [String] == [
        TimeText.write(hour), TimeText.write(hour + 60_000),
      ])
    #expect(now["finest_window"] == "minute")
    // Minutes of a month ago are no longer kept, but hours are.
    let old = hour - 30 * 86_400_000
    let cut = try refused(TimeText.write(old), TimeText.write(old + 300_000))
    #expect(
      cut.json["nearest_to"] as? [String] == [
        TimeText.write(old), TimeText.write(old + 3_600_000),
      ])
    #expect(cut["finest_window"] == "hour")
  }

  @Test func `Without Kafka the events cannot be read, and the answer says what to set`() throws {
    let setup = try APISetup()
    let answer = try setup.get(
      "/v1/usage/events?license_id=a&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z")
    #expect(answer.status == 503 && answer["detail"].contains("METER_KAFKA_BROKERS"))
    #expect(answer.headers["retry-after"] != nil)
  }

  @Test func `A search ends with its time, whatever offsets the records have`() throws {
    let log = try UsageLog(partitions: 1)
    let database = try SharedPostgres.makeDatabase()
    for number in 0..<10 { try log.send(UsageEventText(id: "e\(number)", subject: "lic_1")) }
    try log.flush()
    let connection = try PostgresConnection(url: database, application: "test")
    let reader = try LogReader(KafkaConfiguration(brokers: log.brokers), clientID: "test")
    func search(_ seconds: Int) throws -> EventSearch {
      try EventSearch(
        connection, reader, group: "g", topic: UsageLog.topic, id: "e7", source: nil,
        settings: RecountSettings(), offsets: 5, deadline: .now + .seconds(seconds))
    }
    let whole = try search(60)
    #expect(!whole.wasCutOff && whole.sightings.map(\.offset) == [7])
    // No record that is read has an offset that is a round number.
    let cut = try search(-1)
    #expect(cut.wasCutOff && cut.sightings.isEmpty)
  }
}
