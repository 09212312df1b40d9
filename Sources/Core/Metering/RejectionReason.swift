/// Why a record became a dead letter. It is the column `reason` of `dead_letter`. The reasons are
/// in the order of the checks.
package enum RejectionReason: String, Sendable, CaseIterable {
  case tombstone
  case overSize = "over_size"
  case notJSON = "not_json"
  case notCloudEvent = "not_cloudevent"
  case wrongType = "wrong_type"
  case badSequence = "bad_sequence"
  case noSubject = "no_subject"
  case nulInText = "nul_in_text"
  case badText = "bad_text"
  case badTime = "bad_time"
  case badData = "bad_data"
  case badMeter = "bad_meter"
  case badQuantity = "bad_quantity"
  case keyMismatch = "key_mismatch"
  case tooFarAhead = "too_far_ahead"
  case tooOld = "too_old"
  /// The license's deltas within one flush no longer fit into 64 bits.
  case quantityOverflow = "quantity_overflow"

  /// One sentence for the person who reads the row. It never contains any of the payload.
  package var detail: String {
    switch self {
    case .tombstone: "the record has no value"
    case .overSize: "the value or one of its texts is longer than the contract allows"
    case .notJSON: "the value is not one JSON text by RFC 8259 in UTF-8"
    case .notCloudEvent: "specversion, id, source or type is missing or not as CloudEvents 1.0 asks"
    case .wrongType: "the type is none that this topic carries"
    case .badSequence: "producer or sequence has the wrong type or range"
    case .noSubject: "subject, the license id, is missing, empty or not a string"
    case .nulInText: "a text holds U+0000, which PostgreSQL cannot store"
    case .badText: "a text holds a lone surrogate"
    case .badTime: "time is missing or not RFC 3339"
    case .badData:
      "data is not as the contract asks: a wrong type, bytes that are no JSON object, or data twice"
    case .badMeter: "meter does not match [a-z][a-z0-9_]{0,63}"
    case .badQuantity: "quantity is not an integer within the allowed range"
    case .keyMismatch: "the record's key is not the subject"
    case .tooFarAhead: "time is more than an hour ahead of the record's own timestamp"
    case .tooOld: "time is older than METER_MAX_EVENT_AGE and no registered import allows it"
    case .quantityOverflow: "the license's total within one flush does not fit 64 bits"
    }
  }
}
