// Calls the demo models by `openapi-fetch` with the types that `openapi-typescript` made of the document, `maas.d.ts`, in
// which not a line is edited: `node calls.js DOCUMENT URL`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./maas.js";

const [documentFile, baseUrl] = process.argv.slice(2);
assert(documentFile !== undefined && baseUrl !== undefined);

const client = createClient<paths>({ baseUrl });
const row = [83.0, 234289, 2356, 1590, 107608, 1947];

function isNear(value: unknown, expected: number): void {
  assert(typeof value === "number" && Math.abs(value - expected) <= 1e-6 * Math.abs(expected), `${value}`);
}

// A single sample and a batch; headers are typed, and an answer's type is known by its model.
async function predicts(): Promise<void> {
  const { data, error, response } = await client.POST("/predict/longley", {
    params: { header: { "X-Request-Priority": "interactive", "X-Request-Timeout": 5, "X-Request-Id": "typed" } },
    body: { features: [row, row] },
  });
  assert.equal(error, undefined);
  assert(data !== undefined && Array.isArray(data.employment));
  assert.equal(data.employment.length, 2);
  isNear(data.employment[0], 60055.65997024028);
  assert.equal(response.headers.get("x-request-id"), "typed");

  const single = await client.POST("/predict/longley/versions/1", { body: { features: row } });
  isNear(single.data?.employment, 60055.65997024028);
}

// What the types do not allow does not compile: if it did, the unused directive would be an error itself.
async function refusesWrongTypes(): Promise<void> {
  // @ts-expect-error -- the input has another name
  const misnamed = await client.POST("/predict/longley", { body: { feature: row } });
  assert.equal(misnamed.response.status, 400);
  // @ts-expect-error -- the input is of numbers
  const text = await client.POST("/predict/longley", { body: { features: ["many"] } });
  assert.equal(text.response.status, 400);
  const told: components["schemas"]["PredictError"] | undefined = text.error;
  assert.equal(told?.code, "invalid_request");
  assert(told?.error.includes("features"));
}

// Every typed operation, asked what the document gives as its example.
async function answersEveryExample(): Promise<void> {
  const document = JSON.parse(readFileSync(documentFile!, "utf8"));
  const typed = Object.keys(document.paths).filter((path) => path.startsWith("/predict/"));
  assert(typed.length >= 14);
  for (const path of typed) {
    const operation = document.paths[path].post;
    const body = operation.requestBody.content["application/json"].example;
    const expected = operation.responses["200"].content["application/json"].example;
    const { data, error } = await client.POST(path as "/predict/longley", { body });
    assert.equal(error, undefined, path);
    assert.deepEqual(Object.keys(data ?? {}), Object.keys(expected), path);
  }
}

async function takesTwoInputs(): Promise<void> {
  const { data } = await client.POST("/predict/add-sub", { body: { a: [[1, 2, 3, 4]], b: [[4, 3, 2, 1]] } });
  assert.deepEqual(data, { sum: [[5, 5, 5, 5]], difference: [[-3, -1, 1, 3]] });
  // @ts-expect-error -- an input is missing
  const half = await client.POST("/predict/add-sub", { body: { a: [[1, 2, 3, 4]] } });
  assert.equal(half.error?.code, "invalid_request");
}

async function speaksOpenInference(): Promise<void> {
  const { data } = await client.POST("/v2/models/{model}/infer", {
    params: { path: { model: "longley" } },
    body: { id: "one", inputs: [{ name: "features", shape: [1, 6], datatype: "FP64", data: row }] },
  });
  assert.equal(data?.id, "one");
  isNear(data?.outputs[0]?.data?.[0], 60055.65997024028);
  const wrong = await client.POST("/v2/models/{model}/infer", {
    params: { path: { model: "longley" } },
    body: { inputs: [] },
  });
  assert(wrong.error !== undefined && wrong.error.error.length > 0);
}

async function speaksVersion1(): Promise<void> {
  const path = { model: "longley" };
  const bodies: components["schemas"]["V1Request"][] = [{ instances: [row, row] }, { inputs: [row, row] }];
  for (const body of bodies) {
    const { data } = await client.POST("/v1/models/{model}:predict", { params: { path }, body });
    const predictions = "instances" in body ? data?.predictions : data?.outputs;
    assert(Array.isArray(predictions) && predictions.length === 2);
    isNear(predictions[0], 60055.65997024028);
  }
  const wrong = await client.POST("/v1/models/{model}:predict", { params: { path }, body: { instances: [[1]] } });
  const told: components["schemas"]["V1Error"] | undefined = wrong.error;
  assert(told?.error.includes("features"));
}

async function describesModels(): Promise<void> {
  const params = { path: { model: "longley" } };
  const { data } = await client.GET("/models/{model}", { params });
  assert(data?.name === "longley" && data.state === "ready");
  assert.deepEqual(data.inputs[0]?.shape, ["batch", 6]);
  const missing = await client.GET("/models/{model}", { params: { path: { model: "nobody" } } });
  assert.equal(missing.response.status, 404);
  assert.equal(missing.error?.code, "model_not_found");

  const metadata = await client.GET("/v2/models/{model}", { params });
  assert.equal(metadata.data?.inputs[0]?.datatype, "FP64");
  const config = await client.GET("/v2/models/{model}/config", { params });
  assert(config.data !== undefined && config.data.max_batch_size > 0);
  assert.deepEqual(config.data.input[0]?.dims, [6]);
  const listed = await client.GET("/v1/models");
  assert(listed.data?.object === "list" && listed.data.models.includes("longley"));
  const unlisted = await client.GET("/v1/models/{model}", { params: { path: { model: "nobody" } } });
  assert.equal(unlisted.error?.error.code, "model_not_found");
}

async function tellsStatistics(): Promise<void> {
  const params = { path: { model: "longley" } };
  const before = await client.GET("/v2/models/{model}/stats", { params });
  await client.POST("/predict/longley", { body: { features: row } });
  const after = await client.GET("/v2/models/{model}/stats", { params });
  const [first, second] = [before.data?.model_stats[0], after.data?.model_stats[0]];
  assert(first !== undefined && second !== undefined);
  assert.equal(second.inference_count, first.inference_count + 1);
  assert.equal(second.inference_stats.success.count, first.inference_stats.success.count + 1);
}

async function listsTheRepository(): Promise<void> {
  const { data } = await client.POST("/v2/repository/index", { body: { ready: true } });
  assert(data !== undefined && data.some((entry) => entry.name === "add-sub"));
  assert(data.every((entry) => entry.state === "READY"));
}

await predicts();
await refusesWrongTypes();
await answersEveryExample();
await takesTwoInputs();
await speaksOpenInference();
await speaksVersion1();
await describesModels();
await tellsStatistics();
await listsTheRepository();
