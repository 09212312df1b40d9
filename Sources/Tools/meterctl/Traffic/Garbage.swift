/// Records that docs/event-validation.md refuses, every kind in turn. None of them has a readable
/// producer and sequence, so no ledger counts them.
struct Garbage {
  enum Value {
    case tombstone
    case bytes([UInt8])
  }

  struct Record {
    var key: [UInt8]
    var value: Value
  }

  static let kinds = 36

  /// - Parameters:
  ///   - random: makes the key and the text.
  ///   - now: the time for valid times, in milliseconds.
  static func record(kind: Int, random: UInt64, now: Int64) -> Record {
    let subject = "garbage_" + String(random, radix: 16)
    let time = Moment(milliseconds: now).description
    func usage(
      specversion: String = "\"1.0\"", id: String = "\"g1\"",
      type: String = "\"license.usage.recorded\"", subject subjectText: String? = nil,
      time timeText: String? = nil, extra: String = "", data: String = "{\"quantity\":1}"
    ) -> Value {
      let subjectText = subjectText ?? "\"\(subject)\""
      let timeText = timeText ?? "\"\(time)\""
      return text(
        """
        {"specversion":\(specversion),"id":\(id),"source":"/load/garbage","type":\(type),\
        "subject":\(subjectText),"time":\(timeText)\(extra),"data":\(data)}
        """)
    }
    func text(_ text: String) -> Value { .bytes(Array(text.utf8)) }
    let value: Value =
      switch kind % kinds {
      case 0: .tombstone
      case 1: .bytes([])
      case 2: text("no JSON at all \(subject)")
      case 3: text("{\"specversion\":\"1.0\",\"id\":\"cut")
      case 4: text("{} {}")
      case 5: text("{\"a\":1,}")
      case 6: text("\u{FEFF}{}")
      case 7: .bytes(Array("{\"a\":\"".utf8) + [0xC0, 0xAF] + Array("\"}".utf8))
      case 8: .bytes(Array("{\"a\":\"".utf8) + [0x01] + Array("\"}".utf8))
      case 9: text("{\"a\":NaN}")
      case 10: text(String(repeating: "[", count: 513) + String(repeating: "]", count: 513))
      case 11: text("{\"padding\":\"" + String(repeating: "x", count: 65_536) + "\"}")
      case 12: text("[1,2,3]")
      case 13: text("{}")
      case 14: usage(specversion: "\"0.3\"")
      case 15: usage(id: "\"\"")
      case 16: usage(id: "7")
      case 17: usage(id: "\"a\\u0000b\"")
      case 18: usage(id: "\"\\ud800\"")
      case 19: usage(id: "\"" + String(repeating: "i", count: 1_025) + "\"")
      case 20: usage(type: "\"license.unheard.of\"")
      case 21: usage(subject: "null")
      case 22: usage(subject: "\"\"")
      case 23: usage(extra: ",\"producer\":17,\"sequence\":1")
      case 24: usage(extra: ",\"producer\":\"garbage\",\"sequence\":1.5")
      case 25: usage(time: "\"yesterday\"")
      case 26: usage(time: "\"2026-02-30T00:00:00Z\"")
      case 27: usage(time: "\"\(Moment(milliseconds: now + 3 * 3_600_000))\"")
      case 28: usage(time: "\"2001-01-01T00:00:00Z\"")
      case 29: usage(data: "null")
      case 30: usage(data: "{\"meter\":\"API Calls\"}")
      case 31: usage(data: "{\"quantity\":1.0}")
      case 32: usage(data: "{\"quantity\":-1}")
      case 33: usage(data: "{\"quantity\":1000000001}")
      case 34: usage(data: "{\"domain\":[\"a\"]}")
      default: usage(subject: "\"another_license\"")
      }
    return Record(key: Array(subject.utf8), value: value)
  }
}
