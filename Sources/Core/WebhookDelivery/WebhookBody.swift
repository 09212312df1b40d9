import JSONText

/// Makes the body of a webhook. Every attempt sends the same bytes, because they are signed.
package enum WebhookBody {
  /// `{"id":…,"timestamp":…,"event":…,"type":…,"url":…,"data":{…}}`
  ///
  /// - Parameters:
  ///   - timestamp: the time of the alert as RFC 3339.
  ///   - url: the page of the alert. If it is nil, because the pages have no known address, the
  ///     member is left out.
  ///   - data: a JSON object as PostgreSQL's `jsonb` prints it. Blanks between its tokens are
  ///     dropped.
  /// - Complexity: O(n).
  package static func make(
    id: String, timestamp: String, type: String, data: String, url: String? = nil
  ) -> [UInt8] {
    var json = JSONWriter(reserving: data.utf8.count + 200)
    json.beginObject()
    json.member("id", id)
    json.member("timestamp", timestamp)
    json.member("event", type)
    json.member("type", type)
    if let url { json.member("url", url) }
    json.name("data")
    json.raw(compact(data))
    json.endObject()
    return json.bytes
  }

  private static func compact(_ json: String) -> [UInt8] {
    var body: [UInt8] = []
    body.reserveCapacity(json.utf8.count)
    var inString = false
    var escaped = false
    for byte in json.utf8 {
      if inString {
        if escaped {
          escaped = false
        } else if byte == UInt8(ascii: "\\") {
          escaped = true
        } else if byte == UInt8(ascii: "\"") {
          inString = false
        }
      } else if byte == UInt8(ascii: "\"") {
        inString = true
      } else if byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
        continue
      }
      body.append(byte)
    }
    return body
  }
}
