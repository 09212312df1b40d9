import Metering

/// Reads dead letters, and has them sent again.
package struct DeadLetterStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) {
    self.connection = connection
  }

  /// The place of a dead letter in the log.
  package struct Place: Hashable, Sendable, CustomStringConvertible {
    package var logEpoch: Int32
    package var topic: String
    package var partition: Int32
    package var offset: Int64

    package init(logEpoch: Int32, topic: String, partition: Int32, offset: Int64) {
      self.logEpoch = logEpoch
      self.topic = topic
      self.partition = partition
      self.offset = offset
    }

    /// The value of the header `dead-letter` of a requeued record.
    package var description: String { "\(logEpoch)/\(topic)/\(partition)/\(offset)" }
  }

  /// What identifies a dead letter for ever. Its place alone does not, because offsets are used
  /// again after a log has lost its end.
  package struct Name: Hashable, Sendable {
    package var place: Place
    /// The SHA-256 of the value in hexadecimal digits.
    package var valueHash: String

    package init(_ place: Place, valueHash: String) {
      self.place = place
      self.valueHash = valueHash
    }
  }

  private static let valueHash = "encode(sha256(coalesce(payload, '')), 'hex')"

  package struct DeadLetter: Sendable {
    package var place: Place
    package var group: String
    package var reason: String
    package var detail: String
    package var payloadBytes: Int64?
    package var receivedAt: String
    package var forwardedAt: String?
    package var requeuedAt: String?
    package var countedAt: String?
    /// Only present if it was asked for.
    package var payload: [UInt8]?
    package var key: [UInt8]?
    /// Only present with the payload.
    package var valueHash: String?
  }

  /// Selects dead letters. A nil member selects all.
  package struct Filter: Sendable {
    package var reason: String?
    package var topic: String?
    package var partition: Int32?
    package var offset: Int64?
    package var logEpoch: Int32?

    package init(
      reason: String? = nil, topic: String? = nil, partition: Int32? = nil, offset: Int64? = nil,
      logEpoch: Int32? = nil
    ) {
      self.reason = reason
      self.topic = topic
      self.partition = partition
      self.offset = offset
      self.logEpoch = logEpoch
    }

    fileprivate var parameters: [SQLValue] {
      [
        .optional(reason), .optional(topic), partition.map { .int(Int($0)) } ?? .null,
        offset.map { .integer($0) } ?? .null, logEpoch.map { .int(Int($0)) } ?? .null,
      ]
    }

    fileprivate static let condition = """
      ($1::text is null or reason = $1::text) and ($2::text is null or topic = $2::text)
      and ($3::int is null or partition = $3::int) and ($4::bigint is null or log_offset = $4::bigint)
      and ($5::int is null or log_epoch = $5::int)
      """
  }

  /// Lists dead letters, newest first.
  /// - Parameter withPayload: each payload has up to 64 KiB.
  package func list(
    _ filter: Filter, limit: Int, withPayload: Bool = false
  ) throws(PostgresError) -> [DeadLetter] {
    let rows = try connection.query(
      """
      select \(Self.columns(withPayload)) from dead_letter where \(Filter.condition)
      order by received_at desc, log_epoch desc, topic, partition, log_offset desc limit $6::int
      """, filter.parameters + [.int(limit)], operation: "read dead letters")
    return Self.deadLetters(rows)
  }

  /// A page of dead letters, newest first, without payloads. Each row has the key after which the
  /// next page goes on.
  ///
  /// - Parameters:
  ///   - status: `open`, `requeued` or `counted`; nil for all.
  ///   - after: a key.
  package func page(
    _ filter: Filter, status: String?, after: [String]?, limit: Int
  ) throws(PostgresError) -> [(deadLetter: DeadLetter, key: [String])] {
    let key = after?.count == 6 ? after : nil
    let rows = try connection.query(
      """
      select \(Self.columns(false)), to_char(received_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
      from dead_letter where \(Filter.condition)
        and ($6::text is null or $6 = case when counted_at is not null then 'counted'
          when requeued_at is not null then 'requeued' else 'open' end)
        and ($7::text is null or (received_at, log_epoch, topic, partition, log_offset, consumer_group)
          < ($7::timestamptz, $8::int, $9::text, $10::int, $11::bigint, $12::text))
      order by received_at desc, log_epoch desc, topic desc, partition desc, log_offset desc, consumer_group desc
      limit $13::int
      """,
      filter.parameters + [.optional(status)] + (0..<6).map { .optional(key?[$0]) } + [.int(limit)],
      operation: "read dead letters")
    return zip(Self.deadLetters(rows), rows.rows).map { found, row in
      (
        found,
        [
          row[15] ?? "", "\(found.place.logEpoch)", found.place.topic, "\(found.place.partition)",
          "\(found.place.offset)", found.group,
        ]
      )
    }
  }

  /// The number of dead letters by reason. `open` is the number of those that have not been counted
  /// since.
  package func counts() throws(PostgresError) -> [(reason: String, total: Int64, open: Int64)] {
    let rows = try connection.query(
      """
      select reason, count(*), count(*) filter (where counted_at is null)
      from dead_letter group by 1 order by 2 desc, 1
      """, operation: "count dead letters")
    return rows.rows.indices.map {
      (rows.text($0, 0) ?? "", rows.integer($0, 1) ?? 0, rows.integer($0, 2) ?? 0)
    }
  }

  /// The selected dead letters that can be sent again, in the order of the log, and how many
  /// cannot, by reason.
  package struct Requeueable: Sendable {
    package var letters: [Name] = []
    package var alreadyCounted = 0
    package var alreadyRequeued = 0
    /// Tombstones, and values longer than what is stored. Sent again, they would become dead
    /// letters again.
    package var neverValid = 0
    /// An earlier dead letter has the same value and stands for it.
    package var sameValue = 0
    /// Those that can be sent again beyond the requested number.
    package var remaining = 0
  }

  /// If several dead letters of a topic have the same value, only the first one is sent again. Each
  /// would count, so an event that was sent three times, or a requeued one that failed again, would
  /// be counted as often.
  ///
  /// - Parameters:
  ///   - again: also those that were sent again before and have not counted (yet).
  ///   - limit: the most letters; nil for all.
  package func requeueable(
    _ filter: Filter, again: Bool, limit: Int? = nil
  ) throws(PostgresError) -> Requeueable {
    let rows = try connection.query(
      """
      with chosen as materialized (
        select log_epoch, topic, partition, log_offset, value_hash, case when is_counted then 'counted'
          when never_valid then 'never_valid' when rank > 1 then 'same_value'
          when is_requeued and not $6::boolean then 'requeued' else 'open' end as class
      from (
        select *, row_number() over (
          partition by topic, value_hash order by log_epoch, first_seen, partition, log_offset) as rank
        from (
          -- Two groups that read a topic have a row each, and so has a value that came to a place
          -- again after the log had lost its end.
          select log_epoch, topic, partition, log_offset, \(Self.valueHash) as value_hash,
            min(reason) as reason,
            min(received_at) as first_seen, bool_or(counted_at is not null) as is_counted,
            bool_or(requeued_at is not null) as is_requeued,
            bool_and(payload is null or (reason = 'over_size' and length(payload) >= 65536)) as never_valid
          from dead_letter group by 1, 2, 3, 4, 5
        ) places
      ) d where \(Filter.condition))
      select class, count(*), null::int, null::text, null::int, null::bigint, null::text
      from chosen group by 1
      union all
      (select null, null, log_epoch, topic, partition, log_offset, value_hash from chosen
        where class = 'open'
        order by log_epoch, topic, partition, log_offset, value_hash limit $7::bigint)
      order by 3, 4, 5, 6, 7
      """,
      filter.parameters + [.boolean(again), limit.map { .int($0) } ?? .null],
      operation: "choose dead letters")
    var found = Requeueable()
    for i in rows.rows.indices {
      let count = Int(rows.integer(i, 1) ?? 0)
      switch rows.text(i, 0) {
      case "counted": found.alreadyCounted = count
      case "never_valid": found.neverValid = count
      case "same_value": found.sameValue = count
      case "requeued": found.alreadyRequeued = count
      case "open": found.remaining = count
      default:
        found.letters.append(
          Name(
            Place(
              logEpoch: Int32(rows.integer(i, 2)!), topic: rows.text(i, 3) ?? "",
              partition: Int32(rows.integer(i, 4)!), offset: rows.integer(i, 5)!),
            valueHash: rows.text(i, 6) ?? ""))
      }
    }
    found.remaining -= found.letters.count
    return found
  }

  /// A record that names a dead letter in its header.
  package struct Naming: Sendable {
    package var letter: Place
    package var value: [UInt8]
    /// The place of the record itself.
    package var logEpoch: Int32
    package var partition: Int32
    package var offset: Int64

    package init(
      _ letter: Place, value: [UInt8], logEpoch: Int32, partition: Int32, offset: Int64
    ) {
      self.letter = letter
      self.value = value
      self.logEpoch = logEpoch
      self.partition = partition
      self.offset = offset
    }
  }

  /// What the rows say about a record that names a dead letter.
  package enum Standing: Sendable, Equatable {
    case unknown
    case open(Name)
    /// The letter is settled.
    case counted
  }

  /// Whether records may stand for the dead letters that they name. They may if there is such a
  /// row, if it has the record's value, and if it was there before the record. Anybody can set a
  /// header, so a header decides nothing by itself.
  ///
  /// A letter is open exactly if `flush_settled` accepts that its record counts. Otherwise a
  /// consumer would try the same flush for ever.
  package func standing(of records: [Naming]) throws(PostgresError) -> [Standing] {
    var found = [Standing](repeating: .unknown, count: records.count)
    var start = 0
    while start < records.count {
      var end = start
      var bytes = 0
      repeat {
        bytes += records[end].value.count
        end += 1
      } while end < records.count && bytes < 1 << 20
      let part = records[start..<end]
      let rows = try connection.query(
        """
        select u.place, bool_or(d.counted_at is not null), min(encode(sha256(d.payload), 'hex'))
        from unnest($1::int[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::int[],
          $7::int[], $8::bigint[]) with ordinality
          u(e, t, p, o, value, at_epoch, at_partition, at_offset, place)
        join dead_letter d on d.topic = u.t and d.partition = u.p and d.log_offset = u.o
          and d.log_epoch = u.e and d.payload = decode(u.value, 'hex')
        group by 1
        having bool_or(d.log_epoch < u.at_epoch or d.partition <> u.at_partition
          or d.log_offset < u.at_offset or d.lost_from <= u.at_offset)
        """,
        Self.arrays(part.map(\.letter)) + [
          .texts(part.map { Hexadecimal.text($0.value) }),
          .integers(part.map { Int64($0.logEpoch) }), .integers(part.map { Int64($0.partition) }),
          .integers(part.map(\.offset)),
        ],
        operation: "look up requeued dead letters")
      for i in rows.rows.indices {
        let place = start + Int(rows.integer(i, 0)!) - 1
        found[place] =
          rows.boolean(i, 1)
          ? .counted : .open(Name(records[place].letter, valueHash: rows.text(i, 2) ?? ""))
      }
      start = end
    }
    return found
  }

  /// The given dead letters with their payloads, in the given order. Those that are gone or were
  /// counted meanwhile are left out.
  package func uncounted(_ letters: [Name]) throws(PostgresError) -> [DeadLetter] {
    let rows = try connection.query(
      """
      select distinct on (u.place) \(Self.columns(true))
      from unnest($1::int[], $2::text[], $3::int[], $4::bigint[], $5::text[]) with ordinality
        u(e, t, p, o, hash, place)
      join dead_letter on topic = u.t and partition = u.p and log_offset = u.o and log_epoch = u.e
        and \(Self.valueHash) = u.hash
      where counted_at is null order by u.place
      """, Self.arrays(letters), operation: "read dead letters")
    return Self.deadLetters(rows)
  }

  /// Marks dead letters as sent again. Call it after the broker has acknowledged them.
  package func markRequeued(_ letters: [Name]) throws(PostgresError) {
    try connection.query(
      """
      update dead_letter set requeued_at = now()
      from unnest($1::int[], $2::text[], $3::int[], $4::bigint[], $5::text[]) u(e, t, p, o, hash)
      where topic = u.t and partition = u.p and log_offset = u.o and log_epoch = u.e
        and \(Self.valueHash) = u.hash
      """, Self.arrays(letters), operation: "mark dead letters as requeued")
  }

  // MARK: -

  private static func arrays(_ places: [Place]) -> [SQLValue] {
    [
      .integers(places.map { Int64($0.logEpoch) }), .texts(places.map(\.topic)),
      .integers(places.map { Int64($0.partition) }), .integers(places.map(\.offset)),
    ]
  }

  static func arrays(_ letters: [Name]) -> [SQLValue] {
    arrays(letters.map(\.place)) + [.texts(letters.map(\.valueHash))]
  }

  private static func columns(_ withPayload: Bool) -> String {
    func time(_ column: String) -> String {
      "to_char(\(column) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
    }
    let bytes =
      withPayload
      ? "encode(payload, 'hex'), encode(record_key, 'hex'), \(valueHash)" : "null, null, null"
    return """
      log_epoch, topic, partition, log_offset, consumer_group, reason, detail, length(payload),
      \(time("received_at")), \(time("forwarded_at")), \(time("requeued_at")), \(time("counted_at")), \(bytes)
      """
  }

  private static func deadLetters(_ rows: SQLRows) -> [DeadLetter] {
    rows.rows.indices.map { i in
      DeadLetter(
        place: Place(
          logEpoch: Int32(rows.integer(i, 0)!), topic: rows.text(i, 1) ?? "",
          partition: Int32(rows.integer(i, 2)!), offset: rows.integer(i, 3)!),
        group: rows.text(i, 4) ?? "", reason: rows.text(i, 5) ?? "", detail: rows.text(i, 6) ?? "",
        payloadBytes: rows.integer(i, 7), receivedAt: rows.text(i, 8) ?? "",
        forwardedAt: rows.text(i, 9), requeuedAt: rows.text(i, 10), countedAt: rows.text(i, 11),
        payload: rows.text(i, 12).map { Hexadecimal.bytes($0) },
        key: rows.text(i, 13).map { Hexadecimal.bytes($0) }, valueHash: rows.text(i, 14))
    }
  }
}
