import Testing

@testable import meterctl

@Suite struct ScreenTests {
  private func screen(_ columns: Int, _ rows: Int, colors: Bool = false) -> Screen {
    Screen(columns: columns, rows: rows, hasColors: colors)
  }

  @Test func `A line is cut to the columns that it takes, not to its characters`() {
    #expect(DisplayWidth.of("abc") == 3)
    #expect(DisplayWidth.of("日本") == 4)
    #expect(DisplayWidth.of("e\u{301}") == 1)
    #expect(DisplayWidth.of("☕") == 2)
    #expect(DisplayWidth.of("…") == 1)
    let line = screen(5, 24).render(.init("日本語日本語"))
    #expect(line == "日本…")
    #expect(DisplayWidth.of(line) <= 5)
    #expect(screen(6, 24).render(.init("日本語")) == "日本語")
  }

  @Test func `A problem is broken between words, so that its remedy is seen`() {
    let lines = screen(24, 24).wrap("WRONG  it halted; run: meterctl topics grow", indent: 7)
    #expect(
      lines.map(\.text) == ["WRONG  it halted; run:", "      meterctl topics", "      grow"])
    #expect(screen(.max, .max).wrap("a b", indent: 7).map(\.text) == ["a b"])
    // A word that is longer than the screen is cut, and all other words stay complete.
    let long = screen(10, 24).wrap("abcdefghijklmno is", indent: 7)
    #expect(long.map(\.text) == ["abcdefghijklmno", "  is"])
  }

  @Test func `A refresh writes no more rows than the screen has, and says what it leaves out`() {
    let lines = (1...30).map { Screen.Line("line \($0)") }
    let text = screen(40, 12).refresh(lines)
    #expect(text.filter { $0 == "\n" }.count == 11)
    #expect(text.contains("… 20 more lines"))
    // The line is cleared before it is written, so a full line keeps its last character.
    #expect(text.hasPrefix("\u{1B}[H\u{1B}[Kline 1\n"))
    #expect(text.hasSuffix("\u{1B}[J"))
  }

  @Test func `A screen without colors has no escapes in its lines`() {
    #expect(screen(20, 24).render(.init("bad", .red)) == "bad")
    #expect(screen(20, 24, colors: true).render(.init("bad", .red)) == "\u{1B}[1;31mbad\u{1B}[0m")
  }

  @Test func `NO_COLOR turns colors off, and a dumb terminal turns off refreshing too`() {
    func terminal(_ environment: [String: String]) -> Screen {
      Screen.terminal(columns: 80, rows: 24, environment)
    }
    #expect(terminal([:]).hasColors && terminal([:]).canRefresh)
    #expect(terminal(["NO_COLOR": ""]).hasColors)
    #expect(!terminal(["NO_COLOR": "1"]).hasColors && terminal(["NO_COLOR": "1"]).canRefresh)
    #expect(!terminal(["TERM": "dumb"]).hasColors && !terminal(["TERM": "dumb"]).canRefresh)
  }

  @Test func `A table keeps its columns aligned beside wide characters`() {
    let table = Terminal.table(["id", "n"], [["日本", "1"], ["abcd", "2"]])
    #expect(table == "id    n\n日本  1\nabcd  2")
  }
}

/// A partition whose beginning is not known has the stored offset -1 until it is claimed.
@Suite struct UnbegunPartitionTests {
  private func topic(_ next: [Int32: Int64]) -> StatusSnapshot.Topic {
    StatusSnapshot.Topic(name: "t", group: "g", next: next, commitAge: 0)
  }

  @Test func `Its lag is the log from the low watermark, and it is not subtracted from the sum`() {
    var topic = topic([0: 40, 1: -1])
    topic.compare(with: [(low: 10, high: 45), (low: 3, high: 9)])
    #expect(topic.lag == 5 + 6)
    #expect(topic.nextOffsets == 40)
    #expect(topic.strange == 0)
    #expect(topic.uncounted == 0)
  }

  @Test func `An empty partition of that kind has no lag`() {
    var topic = topic([0: -1])
    topic.compare(with: [(low: 7, high: 7)])
    #expect(topic.lag == 0)
  }

  @Test func `A partition of that kind has nothing to skip`() throws {
    let refusal = Topics.AcceptGap.target(stored: -1, low: 5, high: 9, asked: nil)
    #expect(throws: Failure.self) { try refusal.get() }
    let asked = Topics.AcceptGap.target(stored: -1, low: 5, high: 9, asked: 7)
    #expect(throws: Failure.self) { try asked.get() }
  }

  @Test func `A gap is skipped up to the low watermark, or back to the end of a cut log`() throws {
    #expect(try Topics.AcceptGap.target(stored: 3, low: 5, high: 9, asked: nil).get() == 5)
    #expect(try Topics.AcceptGap.target(stored: 12, low: 5, high: 9, asked: nil).get() == 9)
    #expect(throws: Failure.self) {
      try Topics.AcceptGap.target(stored: 7, low: 5, high: 9, asked: nil).get()
    }
    #expect(try Topics.AcceptGap.target(stored: 7, low: 5, high: 9, asked: 8).get() == 8)
  }
}
