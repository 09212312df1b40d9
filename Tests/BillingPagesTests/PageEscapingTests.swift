import Foundation
import Testing

@testable import BillingPages

@Suite struct PageEscapingTests {
  @Test(
    arguments: [
      "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onmouseover='alert(1)",
      "\"\u{301} onmouseover=alert(1) x=\"", "<\u{338}b>", "&lt;b&gt;", "{{name}}", "{{{name}}}",
    ])
  func `a text stays text wherever a page puts it`(_ text: String) throws {
    let context = PageFixtures.context("/x", query: [("q", text), ("time_zone", text)])
    var page = Page(text, place: "/")
    page.trail = [Link(text, to: "/\(text)", label: text)]
    page.add([
      Plain(text), Quiet(text), Strong(text), LongID(text, to: text), Badge(text, .good),
      Code(text), CodeBlock(text, label: text), Empty(text, command: text),
      ShownOnce(label: text, value: text), Folded(text, [Plain(text)]), Notice(.bad, text),
    ])
    var form = Form(text, to: text, id: "f", in: context)
    form.hide(text, text)
    form.text(text, text, value: text, hint: text, placeholder: text, suggestions: [text])
    form.select(text, text, value: text, [(text, text)])
    form.checkbox(text, text, value: text, hint: text)
    page.add(form)
    var table = Table(text, columns: [text], empty: Empty(text), showsCaption: true)
    table.add([Plain(text)])
    table.continues(at: text, in: context)
    page.add(table)
    page.add(Choices(text, parameter: text, default: text, [(text, text)], in: context))
    page.add(DataLinks("/v1/x", [(text, text)], in: context))
    var chart = Chart(
      title: text, style: .bars, from: 0, to: 10,
      points: [.init(start: 0, end: 10, value: 3, previous: 2, href: text)], unit: text)
    chart.marks = [.init(time: 1, text: text, tone: .bad)]
    page.add(chart.figure(in: context))

    let html = page.html(in: context)
    try Markup.check(html)
    #expect(!html.utf8Contains("<script>alert"))
    #expect(!html.utf8Contains("<img"))
    #expect(html.utf8Contains(HTMLText.escape(text)))
  }

  @Test func `all pages hold only the tags and attributes of the templates`() throws {
    for item in PageFixtures.crowded + PageFixtures.empty {
      try Markup.check(item.page.html(in: item.context), item.name)
    }
  }

  @Test func `no page carries a style or a script of its own or loads anything from elsewhere`() {
    for item in PageFixtures.crowded + PageFixtures.empty {
      let html = item.page.html(in: item.context)
      #expect(!html.utf8Contains(" style="), "\(item.name)")
      #expect(!html.utf8Contains("<style"), "\(item.name)")
      let scripts = html.ranges(of: "<script")
      #expect(scripts.count == 1, "\(item.name)")
      #expect(html.utf8Contains("<script src=\"/assets/copy.js\" defer></script>"))
      #expect(!html.utf8Contains("src=\"http"), "\(item.name)")
    }
  }

  @Test func `an attribute survives a quotation mark with a combining accent`() {
    #expect(HTMLText.escape("a\"\u{301}b") == "a&quot;\u{301}b")
    #expect(HTMLText.escape("plain") == "plain")
    #expect(HTMLText.escape("") == "")
    #expect(HTMLText.escape("'<>&\"") == "&#39;&lt;&gt;&amp;&quot;")
  }
}

extension String {
  /// Compares bytes, because `contains` would miss a mark that a combining accent follows.
  func utf8Contains(_ text: String) -> Bool {
    Data(utf8).range(of: Data(text.utf8)) != nil
  }
}
