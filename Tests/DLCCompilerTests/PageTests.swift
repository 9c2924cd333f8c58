import DLCFormats
import DLCGraph
import DLCTensor
import Foundation
import Testing

/// The page that `dlc show --format html` and `dlc profile --html` write.
@Suite struct PageTests {
  /// What a page has to draw, as it stands in the page.
  private static func data(_ page: String) throws -> [String: Any] {
    let start = try #require(page.range(of: "<script type=\"application/json\" id=\"data\">"))
    let end = try #require(page[start.upperBound...].range(of: "</script>"))
    let json = page[start.upperBound..<end.lowerBound]
    return try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
  }

  private static func list(_ data: [String: Any], _ part: String, _ name: String) throws -> [Any] {
    try #require((data[part] as? [String: Any])?[name] as? [Any])
  }

  @Test func pagesHoldGraphKernelsAndMemory() throws {
    let page = try CommandLineTests.run("show", CommandLineTests.graph, "--format", "html").out
    // It loads nothing: the one address in it names the elements of SVG.
    let rest = page.replacing("http://www.w3.org/2000/svg", with: "")
    for mark in ["http:", "https:", "<link", "src=", "import ", "url(\"", "fetch("] {
      #expect(!rest.contains(mark), "\(mark)")
    }
    let data = try Self.data(page)
    let nodes = try Self.list(data, "graph", "nodes").compactMap { $0 as? [String: Any] }
    #expect(nodes.filter { $0["name"] as? String == "convolution" }.count == 2)
    #expect(nodes.contains { ($0["scope"] as? [String])?.first == "block1" })
    for (index, node) in nodes.enumerated() {
      #expect((node["from"] as? [Int])?.allSatisfy { $0 < index } == true)
    }
    let memory = try #require(data["memory"] as? [String: Any])
    let live = try #require(memory["live"] as? [Int])
    #expect(live.max() == memory["bound"] as? Int && live.count == memory["events"] as? Int)
    let buffers = try Self.list(data, "memory", "buffers").compactMap { $0 as? [String: Any] }
    let top = buffers.map { ($0["offset"] as? Int ?? 0) + ($0["bytes"] as? Int ?? 0) }.max()
    #expect(top == memory["arena"] as? Int)
    #expect((data["kernels"] as? [String: Any])?["timed"] as? Bool == false)
  }

  @Test func bodiesOfLoopsAreInTheGraph() throws {
    let page = try CommandLineTests.run(
      "show", "\(DigitsTests.folder)/examples/char_gru.pb", "--format", "html", "--function",
      "loss"
    ).out
    let nodes = try Self.list(try Self.data(page), "graph", "nodes")
      .compactMap { $0 as? [String: Any] }
    #expect(
      nodes.contains { ($0["scope"] as? [String])?.contains { $0.hasPrefix("scan %") } == true })
  }

  @Test func programsAndTheirFunctions() throws {
    let path = ProgramTests.temporary() + ".dlc"
    defer { try? FileManager.default.removeItem(atPath: path) }
    #expect(try CommandLineTests.run("compile", CommandLineTests.graph, "-o", path).status == 0)
    let page = try CommandLineTests.run("show", path, "--format", "html").out
    #expect(try !Self.list(try Self.data(page), "graph", "nodes").isEmpty)
    let other = try CommandLineTests.run("show", path, "--format", "html", "--function", "loss")
    #expect(
      other.status == 64
        && other.error.hasPrefix("dlc: error: a compiled program is shown as it is"))
    let same = try CommandLineTests.run("profile", path, "--html", path)
    #expect(same.status == 64 && same.error.contains("--html is the same file as the model"))
  }

  // MARK: In a browser

  private static let browser = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].first {
    FileManager.default.isExecutableFile(atPath: $0)
  }

  /// What a script finds in a page after the page's own has run.
  /// - Parameter script: an expression of JavaScript.
  /// - Returns: its value, when the page said nothing on the console.
  private static func look(_ page: String, _ script: String) throws -> [String: Any] {
    let path = ProgramTests.temporary() + ".html"
    let profile = ProgramTests.temporary()
    defer { for file in [path, profile] { try? FileManager.default.removeItem(atPath: file) } }
    let probe =
      "<script>document.body.dataset.found = btoa(encodeURIComponent(JSON.stringify(\(script))))</script>"
    try page.replacing("</body>", with: "\(probe)</body>").write(
      toFile: path, atomically: true, encoding: .utf8)
    let (_, dom, log) = try CommandLineTests.launch(
      URL(fileURLWithPath: "/usr/bin/timeout"),
      [
        "120", browser!, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        "--user-data-dir=\(profile)", "--virtual-time-budget=5000", "--dump-dom", "file://\(path)",
      ])
    let said = log.split(separator: "\n").filter { $0.contains("CONSOLE") }
    #expect(said.isEmpty, "\(said)")
    #expect(dom.contains("data-ready=\"true\""), "\(log.suffix(500))")
    let start = try #require(dom.range(of: "data-found=\""), "\(dom.suffix(500))")
    let code = dom[start.upperBound...].prefix { $0 != "\"" }
    let text = String(decoding: try #require(Data(base64Encoded: String(code))), as: UTF8.self)
    let json = try #require(text.removingPercentEncoding)
    return try #require(
      try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
  }

  @Test(.enabled(if: browser != nil, "no chromium: Tools/test installs it"))
  func theBrowserDrawsAndSorts() throws {
    let path = ProgramTests.temporary() + ".html"
    defer { try? FileManager.default.removeItem(atPath: path) }
    let (status, _, error) = try CommandLineTests.run(
      "profile", CommandLineTests.graph, "--runs", "1", "--threads", "1", "--html", path)
    #expect(status == 0, "\(error)")
    let page = try String(contentsOfFile: path, encoding: .utf8)
    let found = try Self.look(
      page,
      """
      (() => {
        const all = (selector) => [...document.querySelectorAll(selector)];
        const press = (target, key) => target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        const result = {
          items: all(".item").length, edges: all(".edge").length, buffers: all("rect.buffer").length,
          kernels: all("#kernels tbody tr").length,
          times: all("#kernels tbody tr").map((row) => parseFloat(row.cells[1].textContent)),
        };
        const head = all("#kernels th")[3];
        head.querySelector("button").click();
        result.sorted = head.getAttribute("aria-sort");
        all("button").find((button) => button.textContent === "Close all").click();
        result.closed = all(".item").length;
        const group = all(".item.group")[0];
        group.dispatchEvent(new MouseEvent("click", { bubbles: true }));
        press(document.querySelector(".item.selected"), "Enter");
        result.opened = all(".item").length;
        result.focus = document.activeElement.classList.contains("item");
        press(document.activeElement, "ArrowDown");
        result.detail = document.querySelector(".details h3").textContent;
        press(document.activeElement, "Backspace");
        result.closedAgain = all(".item").length;
        const search = document.querySelector("input[type=search]");
        search.value = "argmax";
        press(search, "Enter");
        result.searched = document.querySelector(".details h3").textContent;
        press(document.querySelector(".plan"), "ArrowRight");
        result.buffer = document.querySelector(".plan-said").textContent;
        return result;
      })()
      """)
    let data = try Self.data(page)
    #expect(found["kernels"] as? Int == (try Self.list(data, "kernels", "rows").count))
    #expect(found["buffers"] as? Int == (try Self.list(data, "memory", "buffers").count))
    let times = try #require(found["times"] as? [Double])
    #expect(times.count > 3 && times == times.sorted(by: >) && times[0] > 0)
    let counts = ["items", "edges", "closed", "opened"].map { found[$0] as? Int ?? 0 }
    #expect(counts[0] > 20 && counts[1] > 20 && counts[2] < counts[3] && counts[3] < counts[0])
    #expect(found["closedAgain"] as? Int == counts[2])
    #expect(found["sorted"] as? String == "descending" && found["focus"] as? Bool == true)
    #expect(
      found["searched"] as? String == "argmax" && (found["detail"] as? String)?.isEmpty == false)
    #expect((found["buffer"] as? String)?.contains("in use in steps") == true)
  }

  /// Names of a hostile file stay text.
  @Test(.enabled(if: browser != nil, "no chromium: Tools/test installs it"))
  func namesAreNoMarkup() throws {
    let evil =
      "</script><script>document.title='owned'</script><img src=x onerror=\"alert(1)\">`${1}\u{2028}"
    var module = Module(evil)
    try module.function("f<b>") { g in
      let x = g.input("x" + evil, .float32, [4])
      let y = g.scope(evil) { g.scope("in") { (x + 1) * x } + x }
      g.output("y" + evil, g.scope("&amp;<i>") { y * y - x })
    }
    let path = ProgramTests.temporary() + ".pb"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try module.save(path)
    let (status, page, error) = try CommandLineTests.run("show", path, "--format", "html")
    #expect(status == 0, "\(error)")
    #expect(!page.contains("<script>document.title") && !page.contains("<img"))
    let found = try Self.look(
      page,
      """
      ({ title: document.title, head: document.querySelector("h1").textContent,
        strange: document.querySelectorAll("img, b, i:not(.meter i), script").length,
        names: [...document.querySelectorAll(".item title")].map((title) => title.textContent).join() })
      """)
    #expect(
      found["title"] as? String == "\(evil) · f<b>" && found["head"] as? String == "\(evil) · f<b>")
    // The data, the page's script and the probe.
    #expect(found["strange"] as? Int == 3)
    #expect((found["names"] as? String)?.contains("</script>") == true)
  }

  /// A graph of thousands of operations without scopes is shown in parts.
  @Test(.enabled(if: browser != nil, "no chromium: Tools/test installs it"))
  func largeGraphsAreShownInParts() throws {
    var module = Module("large")
    try module.function("forward") { g in
      var x = g.input("x", .float32, [8])
      for index in 0..<1500 { x = g.scope(index < 500 ? "head" : "") { x * x + 1 } }
      g.output("y", x)
    }
    let path = ProgramTests.temporary() + ".pb"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try module.save(path)
    let page = try CommandLineTests.run("show", path, "--format", "html").out
    let found = try Self.look(
      page,
      """
      (() => {
        const count = () => document.querySelectorAll(".item").length;
        const start = performance.now();
        const result = { first: count() };
        const search = document.querySelector("input[type=search]");
        search.value = "multiply";
        search.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
        result.after = count();
        result.name = document.querySelector(".details h3").textContent;
        [...document.querySelectorAll("button")].find((b) => b.textContent === "Open more").click();
        return { ...result, more: count() };
      })()
      """)
    let counts = ["first", "after", "more"].map { found[$0] as? Int ?? 0 }
    #expect(counts[0] > 2 && counts[0] <= 64 && counts[1] <= 200 && counts[2] <= 2000, "\(counts)")
    #expect(found["name"] as? String == "multiply")
  }
}
